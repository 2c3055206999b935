// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/pkg/compression"
)

// Where guestd lies in an image, and the labels that tell of it.
const (
	GuestdPath   = "/usr/lib/waggle/guestd"
	GuestdInfo   = "/usr/lib/waggle/guestd.json"
	LabelVersion = "io.waggle.guestd.version"
	// LabelProtocol has the form MIN-MAX.
	LabelProtocol = "io.waggle.guestd.protocol"
	LabelDigest   = "io.waggle.guestd.digest"

	// layerMark is the annotation by which a later bake finds the layer to
	// replace.
	layerMark = "io.waggle.layer"
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

// Bake stores under dst the image src with guestd in one further layer, or in
// place of the one that an earlier bake appended. Everything else of the image
// stays. The same inputs give the same digest. What dst meant before is swept.
func (s *Store) Bake(ctx context.Context, src, dst string, g Guestd, o ResolveOptions) (*Image, error) {
	name, err := ownName(dst)
	if err != nil {
		return nil, err
	}
	base, err := s.Resolve(ctx, src, o)
	if err != nil {
		return nil, err
	}
	binary, err := readGuestd(g.Path, base.Arch)
	if err != nil {
		return nil, err
	}
	info := guestdInfo{Version: g.Version, ProtocolMin: g.ProtocolMin, ProtocolMax: g.ProtocolMax, Digest: digest.FromBytes(binary)}
	content, err := guestdLayer(binary, info)
	if err != nil {
		return nil, err
	}
	var img *Image
	err = s.adding(ctx, func() error {
		img, err = s.bake(ctx, base.Ref, name, content, info)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bake %q: %w", dst, err)
	}
	return img, nil
}

func (s *Store) bake(ctx context.Context, src, name string, content []byte, info guestdInfo) (*Image, error) {
	// Between Resolve and the lease the image may have been removed.
	base, err := s.Inspect(src)
	if err != nil {
		return nil, err
	}
	layer, diffID, err := s.putLayer(ctx, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	layer.Annotations = map[string]string{layerMark: "guestd"}
	layers, rebake, err := s.baseLayers(base)
	if err != nil {
		return nil, err
	}
	config, err := bakedConfig(base.raw, diffID, info, rebake)
	if err != nil {
		return nil, err
	}
	return s.putImage(ctx, name, config, append(layers, layer))
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
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no Linux binary: %w", ErrGuestd, path, err)
	}
	if want, ok := machines[arch]; !ok || f.Machine != want {
		return nil, fmt.Errorf("%w: %s is for %s, the image for %s; use guestd-linux-%s", ErrArch, path, f.Machine, arch, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%w: %s is linked dynamically; build it with CGO_ENABLED=0", ErrGuestd, path)
		}
	}
	return b, nil
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

// baseLayers describes the layers of img in OCI's terms, without the guestd
// layer of an earlier bake, and says whether there was one. The media type
// follows the content: archives are known to name it wrongly.
func (s *Store) baseLayers(img *Image) (layers []imgspec.Descriptor, rebake bool, err error) {
	infos := img.manifest.LayerInfos()
	for i, info := range infos {
		if i == len(infos)-1 && info.Annotations[layerMark] == "guestd" {
			return layers, true, nil
		}
		f, err := s.openBlob(info.Digest)
		if err != nil {
			return nil, false, err
		}
		format, _, _, err := compression.DetectCompressionFormat(io.LimitReader(f, 4096))
		_ = f.Close()
		if err != nil {
			return nil, false, fmt.Errorf("%w: layer %s: %w", ErrCorrupt, info.Digest, err)
		}
		mime := map[string]string{
			"": imgspec.MediaTypeImageLayer, "gzip": imgspec.MediaTypeImageLayerGzip, "zstd": imgspec.MediaTypeImageLayerZstd,
		}[format.Name()]
		if mime == "" {
			return nil, false, fmt.Errorf("layer %s is compressed with %s, which OCI images cannot have", info.Digest, format.Name())
		}
		layers = append(layers, imgspec.Descriptor{MediaType: mime, Digest: info.Digest, Size: info.Size, Annotations: info.Annotations})
	}
	return layers, false, nil
}

// bakedConfig works on raw JSON, so that fields unknown to us are kept.
func bakedConfig(raw []byte, diffID digest.Digest, info guestdInfo, rebake bool) ([]byte, error) {
	var top, config map[string]json.RawMessage
	var spec imgspec.Image
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", ErrCorrupt, err)
	}
	if err := json.Unmarshal(raw, &top); err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", ErrCorrupt, err)
	}
	if len(top["config"]) > 0 {
		if err := json.Unmarshal(top["config"], &config); err != nil {
			return nil, fmt.Errorf("%w: configuration: %w", ErrCorrupt, err)
		}
	}
	if config == nil {
		config = make(map[string]json.RawMessage)
	}
	labels := spec.Config.Labels
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[LabelVersion] = info.Version
	labels[LabelProtocol] = fmt.Sprintf("%d-%d", info.ProtocolMin, info.ProtocolMax)
	labels[LabelDigest] = info.Digest.String()
	if rebake {
		spec.RootFS.DiffIDs = spec.RootFS.DiffIDs[:len(spec.RootFS.DiffIDs)-1]
		if n := len(spec.History); n > 0 {
			spec.History = spec.History[:n-1]
		}
	}
	epoch := time.Unix(0, 0).UTC()
	spec.RootFS.DiffIDs = append(spec.RootFS.DiffIDs, diffID)
	if len(top["history"]) > 0 { // an image without any stays so: it must fit the layers
		spec.History = append(spec.History, imgspec.History{Created: &epoch, CreatedBy: "waggle image bake"})
	}
	for _, field := range []struct {
		in    map[string]json.RawMessage
		key   string
		value any
	}{
		{config, "Labels", labels}, {top, "config", config}, {top, "rootfs", spec.RootFS}, {top, "history", spec.History},
	} {
		if field.key == "history" && len(spec.History) == 0 {
			continue
		}
		b, err := json.Marshal(field.value)
		if err != nil {
			return nil, fmt.Errorf("encode configuration: %w", err)
		}
		field.in[field.key] = b
	}
	return json.Marshal(top)
}
