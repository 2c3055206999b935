// SPDX-License-Identifier: Apache-2.0

package bootdisk

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/krun/spec"
	"github.com/stacklok/waggle/host/vmm"
)

// formatVersion changes the hash when Write changes.
const formatVersion = "1"

// powerOff is how guestd ends the machine: libkrun's x86 machine has no power
// switch, and a kernel told to power off halts there for ever.
const powerOff = "restart"

// Content is what one boot disk is made of.
type Content struct {
	// Guestd is the path of the guest agent, a static binary.
	Guestd string
	// GuestdInfo is passed through in boot.json. May be nil.
	GuestdInfo json.RawMessage
}

// Boot is boot.json.
type Boot struct {
	// Modules is empty: libkrunfw's kernel has none.
	Modules []string `json:"modules"`
	// Guestd is Content.GuestdInfo.
	Guestd json.RawMessage `json:"guestd,omitempty"`
	// PowerOff says by which reboot(2) the machine ends.
	PowerOff string `json:"power_off"`
}

// directories in the order in which they must be made.
var directories = []string{
	"dev", "proc", "sys", "run", "tmp", "newroot", "image", "scratch", "lib", "lib/waggle",
}

// Cached returns the path of a disk of c in dir, which is written if it is not
// there. It may be called concurrently; see vmm.Cache.
func Cached(dir string, c Content) (string, error) {
	hash, err := contentHash(c)
	if err != nil {
		return "", fmt.Errorf("hash boot disk content: %w", err)
	}
	// Readable by the uid that the VMM runs as; written by nobody.
	cache := vmm.Cache{Dir: dir, Kind: "bootdisk", Ext: ".ext4", Mode: 0o444}
	return cache.Get(hash, func(f *os.File) error { return Write(f, c) })
}

func contentHash(c Content) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d:%s\n", formatVersion, len(c.GuestdInfo), c.GuestdInfo)
	file, err := os.Open(c.Guestd)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if _, err := io.Copy(h, file); err != nil {
		return "", fmt.Errorf("read %s: %w", c.Guestd, err)
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

// errStopped ends the tar's writer after the ext4 writer has failed.
var errStopped = errors.New("ext4 writer stopped")

// Write writes the disk to f, which is empty. The same content gives the same
// bytes.
func Write(f *os.File, c Content) error {
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeTar(pw, c)
		_ = pw.CloseWithError(err) // nil means EOF; it never fails
		written <- err
	}()
	err := disk.FromTar(f, pr)
	_ = pr.CloseWithError(errStopped)
	if terr := <-written; terr != nil && !errors.Is(terr, errStopped) {
		return terr
	}
	return err
}

func writeTar(w io.Writer, c Content) error {
	boot, err := json.Marshal(Boot{Modules: []string{}, Guestd: c.GuestdInfo, PowerOff: powerOff})
	if err != nil {
		return fmt.Errorf("encode boot.json: %w", err)
	}
	archive := tar.NewWriter(w)
	for _, dir := range directories {
		if err := archive.WriteHeader(header(tar.TypeDir, "/"+dir+"/", 0o755, 0)); err != nil {
			return fmt.Errorf("write directory %s: %w", dir, err)
		}
	}
	if err := archive.WriteHeader(header(tar.TypeReg, spec.BootJSON, 0o644, int64(len(boot)))); err != nil {
		return fmt.Errorf("write boot.json: %w", err)
	}
	if _, err := archive.Write(boot); err != nil {
		return fmt.Errorf("write boot.json: %w", err)
	}
	if err := addGuestd(archive, c.Guestd); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("end disk: %w", err)
	}
	return nil
}

func addGuestd(archive *tar.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if err := archive.WriteHeader(header(tar.TypeReg, spec.Exec, 0o755, info.Size())); err != nil {
		return fmt.Errorf("write guestd: %w", err)
	}
	if _, err := io.CopyN(archive, file, info.Size()); err != nil {
		return fmt.Errorf("write guestd: %w", err)
	}
	return nil
}

// header of an entry of root's, made in 1970: the bytes of the disk depend on its
// content alone.
func header(kind byte, name string, mode, size int64) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}
