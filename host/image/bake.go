// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/pkg/compression"
)

// layerMark is the annotation by which a later bake finds the layer to replace.
const layerMark = "io.waggle.layer"

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
	img, err := s.bakeOn(ctx, base, name, g)
	if err != nil {
		return nil, fmt.Errorf("bake %q: %w", dst, err)
	}
	return img, nil
}

// bakeOn is Bake on an image of the store.
func (s *Store) bakeOn(ctx context.Context, base *Image, name string, g Guestd) (*Image, error) {
	binary, info, err := g.read(base.Arch)
	if err != nil {
		return nil, err
	}
	content, err := guestdLayer(binary, info)
	if err != nil {
		return nil, err
	}
	var img *Image
	err = s.adding(ctx, func() error {
		img, err = s.bake(ctx, base.Ref, name, content, info)
		return err
	})
	return img, err
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
	maps.Copy(labels, info.labels())
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
