// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// Where guestd lies in an image, and the labels that tell of it.
const (
	GuestdPath   = "/usr/lib/waggle/guestd"
	GuestdInfo   = "/usr/lib/waggle/guestd.json"
	LabelVersion = "io.waggle.guestd.version"
	// LabelProtocol has the form MIN-MAX.
	LabelProtocol = "io.waggle.guestd.protocol"
	LabelDigest   = "io.waggle.guestd.digest"

	maxGuestd = 256 << 20
)

// Guestd is the binary to bake and what it says of itself.
type Guestd struct {
	// Path of the static binary on the host.
	Path        string
	Version     string
	ProtocolMin uint32
	ProtocolMax uint32
}

// guestdInfo is the content of GuestdInfo.
type guestdInfo struct {
	Version     string        `json:"version"`
	ProtocolMin uint32        `json:"protocol_min"`
	ProtocolMax uint32        `json:"protocol_max"`
	Digest      digest.Digest `json:"digest"`
}

// labels are what an image says of the guestd in it.
func (i guestdInfo) labels() map[string]string {
	return map[string]string{
		LabelVersion: i.Version, LabelProtocol: fmt.Sprintf("%d-%d", i.ProtocolMin, i.ProtocolMax), LabelDigest: i.Digest.String(),
	}
}

// read returns the binary, fit for arch, with what is said of it.
func (g Guestd) read(arch string) ([]byte, guestdInfo, error) {
	binary, err := readGuestd(g.Path, arch)
	if err != nil {
		return nil, guestdInfo{}, err
	}
	return binary, guestdInfo{
		Version: g.Version, ProtocolMin: g.ProtocolMin, ProtocolMax: g.ProtocolMax, Digest: digest.FromBytes(binary),
	}, nil
}

// WriteGuestd writes the two files of a baked image to dir, for a build by another
// tool, and returns the labels that belong to them.
func WriteGuestd(g Guestd, arch, dir string) (map[string]string, error) {
	binary, info, err := g.read(arch)
	if err != nil {
		return nil, err
	}
	about, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("encode guestd.json: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write guestd: %w", err)
	}
	// The umask of whoever calls has no say in the modes that the build copies.
	for path, f := range map[string]struct {
		body []byte
		mode os.FileMode
	}{GuestdPath: {binary, 0o755}, GuestdInfo: {append(about, '\n'), 0o644}} {
		file := filepath.Join(dir, filepath.Base(path))
		if err := errors.Join(os.WriteFile(file, f.body, f.mode), os.Chmod(file, f.mode)); err != nil {
			return nil, fmt.Errorf("write guestd: %w", err)
		}
	}
	return info.labels(), nil
}

// machines are the architectures that guests can have.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// CheckGuestd says why the program at path cannot be the guest agent on arch.
func CheckGuestd(path, arch string) error {
	_, err := readGuestd(path, arch)
	return err
}

// readGuestd refuses what could not be the first process of such an image: it
// may have no dynamic loader, nor the libraries.
func readGuestd(path, arch string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuestd, err)
	}
	if st.Size() > maxGuestd {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrGuestd, path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuestd, err)
	}
	return b, checkBinary(path, b, arch)
}

// checkBinary says why the program b of the file path cannot be guestd on arch.
func checkBinary(path string, b []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%w: %s is no Linux binary: %w", ErrGuestd, path, err)
	}
	if want, ok := machines[arch]; !ok || f.Machine != want {
		return fmt.Errorf("%w: %s is for %s, the image for %s; use guestd-linux-%s", ErrArch, path, f.Machine, arch, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%w: %s is linked dynamically; build it with CGO_ENABLED=0", ErrGuestd, path)
		}
	}
	return nil
}

// guestdLayer leaves out the entries of /usr and /usr/lib: they would replace
// the owner and mode that these directories have in the image, or a symlink.
func guestdLayer(binary []byte, info guestdInfo) ([]byte, error) {
	about, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("encode guestd.json: %w", err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range []struct {
		name string
		mode int64
		body []byte
	}{
		{"usr/lib/waggle/", 0o755, nil},
		{GuestdPath[1:], 0o755, binary},
		{GuestdInfo[1:], 0o644, append(about, '\n')},
	} {
		hdr := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.body)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if e.body == nil {
			hdr.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(hdr); err != nil {
			return nil, fmt.Errorf("write guestd layer: %w", err)
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, fmt.Errorf("write guestd layer: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write guestd layer: %w", err)
	}
	return out.Bytes(), nil
}
