// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/vmtest"
)

// imageSamples is how often an image is pulled, and its disk made.
const imageSamples = 3

// BenchmarkImage is what an image costs before the first machine has it: the python
// image, its layers compressed by gzip as most registries have them.
func BenchmarkImage(b *testing.B) {
	l := gzipped(b, vmtest.Install(b).Data)
	b.Run("pull", l.benchPull)
	b.Run("disk", l.benchDisk)
}

// ociLayout is an image in a directory of its own.
type ociLayout struct {
	dir string
	img v1.Image
	// plain is how many bytes the layers unpack to.
	plain int64
}

// layoutTag is the name of the image there.
const layoutTag = "bench"

// gzipped is the python image of the store with other compression.
func gzipped(b *testing.B, data string) *ociLayout {
	b.Helper()
	store, err := image.Open(filepath.Join(data, "images"))
	require.NoError(b, err)
	from, err := store.Resolve(b.Context(), "waggle/python", image.ResolveOptions{LocalOnly: true})
	require.NoError(b, err)
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	out := &ociLayout{dir: filepath.Join(b.TempDir(), "oci")}
	for _, l := range from.Layers {
		r, err := l.Open(b.Context())
		require.NoError(b, err)
		n, err := io.Copy(io.Discard, r)
		require.NoError(b, err)
		require.NoError(b, r.Close())
		out.plain += n
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return l.Open(context.Background()) }, tarball.WithMediaType(types.OCILayer))
		require.NoError(b, err)
		img, err = mutate.AppendLayers(img, layer)
		require.NoError(b, err)
	}
	cfg, err := img.ConfigFile()
	require.NoError(b, err)
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	img, err = mutate.ConfigFile(img, cfg)
	require.NoError(b, err)
	// Compressed once, on disk, and not with each request.
	path, err := layout.Write(out.dir, empty.Index)
	require.NoError(b, err)
	require.NoError(b, path.AppendImage(img, layout.WithAnnotations(map[string]string{imgspec.AnnotationRefName: layoutTag})))
	d, err := img.Digest()
	require.NoError(b, err)
	out.img, err = path.Image(d)
	require.NoError(b, err)
	return out
}

// benchPull is the rate of what comes over the wire, from a registry in this process. An
// image is verified, and synced to disk, when it is there.
func (l *ociLayout) benchPull(b *testing.B) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	ref := strings.TrimPrefix(srv.URL, "http://") + "/bench/python:1"
	to, err := name.ParseReference(ref)
	require.NoError(b, err)
	require.NoError(b, remote.Write(to, l.img))
	layers, err := l.img.Layers()
	require.NoError(b, err)
	var size int64
	for _, layer := range layers {
		n, err := layer.Size()
		require.NoError(b, err)
		size += n
	}
	rates := make([]float64, 0, imageSamples)
	for range imageSamples {
		store, err := image.Open(b.TempDir())
		require.NoError(b, err)
		began := time.Now()
		_, err = store.Resolve(b.Context(), "docker://"+ref, image.ResolveOptions{})
		require.NoError(b, err)
		rates = append(rates, float64(size)/time.Since(began).Seconds())
	}
	report(b, "rate", "B/s", rates)
}

// benchDisk makes the disk, and unpacks the same blobs with umoci and with tar, by turns.
func (l *ociLayout) benchDisk(b *testing.B) {
	umoci, err := exec.LookPath("umoci")
	require.NoError(b, err, "./scripts/deps.sh bench")
	store, err := image.Open(b.TempDir())
	require.NoError(b, err)
	from, err := store.Resolve(b.Context(), "oci:"+l.dir+":"+layoutTag, image.ResolveOptions{})
	require.NoError(b, err)
	times, ratios := series{}, series{}
	rates := make([]float64, 0, imageSamples)
	for i := range imageSamples {
		dir := filepath.Join(b.TempDir(), strconv.Itoa(i))
		ours := timed(func() { makeDisk(b, dir, from) })
		rates = append(rates, float64(l.plain)/ours.Seconds())
		theirs := timed(func() {
			command(b, umoci, append(rootless(), "--image", l.dir+":"+layoutTag, filepath.Join(dir, "umoci"))...)
		})
		tar := timed(func() { l.untar(b, filepath.Join(dir, "tar")) })
		times.addTime("build", ours)
		times.addTime("umoci", theirs)
		times.addTime("tar", tar)
		ratios.add("umoci-times", theirs.Seconds()/ours.Seconds())
		ratios.add("tar-times", tar.Seconds()/ours.Seconds())
		require.NoError(b, os.RemoveAll(dir))
	}
	report(b, "rate", "B/s", rates)
	times.report(b, "sec")
	ratios.report(b, "times")
}

func timed(work func()) time.Duration {
	began := time.Now()
	work()
	return time.Since(began)
}

func makeDisk(b *testing.B, dir string, img *image.Image) {
	b.Helper()
	cache, err := disk.Open(filepath.Join(dir, "disks"), disk.DefaultLimits)
	require.NoError(b, err)
	var layers []disk.Layer
	for _, l := range img.Layers {
		layers = append(layers, disk.Layer{Open: l.Open, Size: l.Size})
	}
	_, err = cache.Root(b.Context(), img.Digest, layers, nil)
	require.NoError(b, err)
}

// rootless are umoci's words for unpacking.
func rootless() []string {
	if os.Getuid() == 0 {
		return []string{"unpack"}
	}
	return []string{"unpack", "--rootless"}
}

// untar unpacks the blobs, lowest first, as tar alone does it: whiteouts stay files.
func (l *ociLayout) untar(b *testing.B, dir string) {
	b.Helper()
	require.NoError(b, os.MkdirAll(dir, 0o755))
	layers, err := l.img.Layers()
	require.NoError(b, err)
	for _, layer := range layers {
		d, err := layer.Digest()
		require.NoError(b, err)
		command(b, "tar", "-xzf", filepath.Join(l.dir, "blobs", d.Algorithm, d.Hex), "--exclude=dev/*", "-C", dir)
	}
}

func command(b *testing.B, program string, args ...string) {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), program, args...).CombinedOutput()
	require.NoError(b, err, "%s", out)
}
