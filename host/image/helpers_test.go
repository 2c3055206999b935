// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
)

func openStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	require.NoError(t, err)
	s.retryDelay = time.Millisecond
	return s
}

// startRegistry serves a registry on loopback; wrap may be nil.
func startRegistry(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func push(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	tag, err := name.NewTag(ref, name.Insecure)
	require.NoError(t, err)
	require.NoError(t, remote.Write(tag, img))
}

// testImage has one layer for each of the bodies, with the file /f<i>.
func testImage(t testing.TB, arch string, bodies ...string) v1.Image {
	t.Helper()
	img := empty.Image
	for i, body := range bodies {
		raw := makeTar(t, map[string]string{"f" + string(rune('0'+i)): body})
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
		require.NoError(t, err)
		img, err = mutate.AppendLayers(img, layer)
		require.NoError(t, err)
	}
	cfg, err := img.ConfigFile()
	require.NoError(t, err)
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", arch
	cfg.Config.Env = []string{"PATH=/usr/bin"}
	cfg.Config.Entrypoint = []string{"/entry"}
	cfg.Config.User = "worker"
	cfg.Config.WorkingDir = "/srv"
	cfg.Config.Labels = map[string]string{"team": "data"}
	cfg.Config.Healthcheck = &v1.HealthConfig{Test: []string{"NONE"}}
	img, err = mutate.ConfigFile(img, cfg)
	require.NoError(t, err)
	return img
}

func makeTar(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, body := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}))
		_, err := io.WriteString(w, body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// readLayers returns the content of all files of all layers.
func readLayers(t testing.TB, img *Image) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, l := range img.Layers {
		r, err := l.Open(t.Context())
		require.NoError(t, err)
		raw, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		tr := tar.NewReader(bytes.NewReader(raw))
		for {
			hdr, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			body, err := io.ReadAll(tr)
			require.NoError(t, err)
			out[hdr.Name] = string(body)
		}
	}
	return out
}

// files lists what lies in the store besides locks and the layout's marker.
func files(t testing.TB, s *Store) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(s.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(s.root, path)
		if !strings.HasPrefix(rel, lockDir) && rel != "oci-layout" {
			out = append(out, rel)
		}
		return err
	}))
	return out
}

// staticBinary writes the smallest file that passes for a static binary.
func staticBinary(t testing.TB, machine elf.Machine, progs ...elf.ProgType) string {
	t.Helper()
	var b bytes.Buffer
	hdr := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs)), Shentsize: 64,
	}
	require.NoError(t, binary.Write(&b, binary.LittleEndian, hdr))
	for _, p := range progs {
		require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(p)}))
	}
	path := filepath.Join(t.TempDir(), "guestd")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o755))
	return path
}

func hostMachine() elf.Machine {
	if runtime.GOARCH == "arm64" {
		return elf.EM_AARCH64
	}
	return elf.EM_X86_64
}

func otherArch() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

func resolve(t testing.TB, s *Store, ref string) *Image {
	t.Helper()
	img, err := s.Resolve(t.Context(), ref, ResolveOptions{})
	require.NoError(t, err)
	return img
}
