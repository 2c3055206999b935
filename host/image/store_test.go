// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

func importImage(t testing.TB, s *Store, ref, body string) *Image {
	t.Helper()
	cfg := Config{Env: []string{"A=1"}, User: "sandbox", WorkingDir: "/home/sandbox", Cmd: []string{"sh"}}
	img, err := s.ImportRootfs(t.Context(), bytes.NewReader(makeTar(t, map[string]string{"file": body})), ref, "", cfg)
	require.NoError(t, err)
	return img
}

func TestImportRootfs(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	body := strings.Repeat("compressible ", 100_000)
	img := importImage(t, s, "waggle/python", body)
	require.Equal(t, "waggle/python:latest", img.Ref)
	require.Equal(t, runtime.GOARCH, img.Arch)
	require.Equal(t, body, readLayers(t, img)["file"])
	require.Less(t, img.Size, int64(100_000))
	require.Equal(t, "sandbox", img.Config.User)
	require.Equal(t, img.Digest, importImage(t, openStore(t), "waggle/python", body).Digest, "the same input has the same digest")
	require.Equal(t, img.Digest, resolve(t, s, "waggle/python").Digest)

	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(makeTar(t, map[string]string{"file": body}))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	other, err := s.ImportRootfs(t.Context(), &packed, "x", "", img.Config)
	require.NoError(t, err)
	require.Equal(t, img.Layers[0].DiffID, other.Layers[0].DiffID)
}

func TestImportRefused(t *testing.T) {
	t.Parallel()
	whole := makeTar(t, map[string]string{"file": strings.Repeat("x", 10_000)})
	for name, tc := range map[string]struct {
		ref  string
		in   io.Reader
		want error
	}{
		"cut short":      {"a", bytes.NewReader(whole[:4000]), ErrCorrupt},
		"no tar":         {"a", strings.NewReader(strings.Repeat("no tar", 1000)), ErrCorrupt},
		"empty":          {"a", strings.NewReader(""), ErrCorrupt},
		"failing source": {"a", io.MultiReader(bytes.NewReader(whole[:4000]), iotestErr{os.ErrClosed}), os.ErrClosed},
		"transport":      {"docker://example.test/a", bytes.NewReader(whole), ErrReference},
		"digest":         {"a@" + digest.FromString("x").String(), bytes.NewReader(whole), ErrReference},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			_, err := s.ImportRootfs(t.Context(), tc.in, tc.ref, "", Config{})
			require.ErrorIs(t, err, tc.want)
			require.Empty(t, files(t, s))
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := openStore(t)
	_, err := s.ImportRootfs(ctx, bytes.NewReader(whole), "a", "", Config{})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, files(t, s))
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

func TestBake(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, nil)
	push(t, host+"/app:v1", testImage(t, runtime.GOARCH, "one", "two"))
	g := Guestd{Path: staticBinary(t, hostMachine(), elf.PT_LOAD), Version: "1.2.3", ProtocolMin: 1, ProtocolMax: 3}
	binary, err := os.ReadFile(g.Path)
	require.NoError(t, err)
	sum := digest.FromBytes(binary)

	s := openStore(t)
	img, err := s.Bake(t.Context(), host+"/app:v1", "waggle/app", g, ResolveOptions{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"team": "data", LabelVersion: "1.2.3", LabelProtocol: "1-3", LabelDigest: sum.String(),
	}, img.Config.Labels)
	require.Equal(t, []string{"/entry"}, img.Config.Entrypoint)
	require.Equal(t, "worker", img.Config.User)
	require.Contains(t, string(img.raw), "Healthcheck", "fields unknown to OCI are kept")
	got := readLayers(t, img)
	require.Equal(t, "one", got["f0"])
	require.Equal(t, string(binary), got["usr/lib/waggle/guestd"])
	require.JSONEq(t, `{"version":"1.2.3","protocol_min":1,"protocol_max":3,"digest":"`+sum.String()+`"}`, got["usr/lib/waggle/guestd.json"])

	again, err := openStore(t).Bake(t.Context(), host+"/app:v1", "waggle/other", g, ResolveOptions{})
	require.NoError(t, err)
	require.Equal(t, img.Digest, again.Digest, "the same inputs have the same digest")

	rebaked, err := s.Bake(t.Context(), "waggle/app", "waggle/app", g, ResolveOptions{})
	require.NoError(t, err)
	require.Equal(t, img.Digest, rebaked.Digest, "a second bake replaces the layer of the first")

	g.Version = "1.2.4"
	newer, err := s.Bake(t.Context(), "waggle/app", "waggle/app", g, ResolveOptions{})
	require.NoError(t, err)
	require.NotEqual(t, img.Digest, newer.Digest)
	require.Len(t, newer.Layers, 3)
}

func TestBakedLayer(t *testing.T) {
	t.Parallel()
	info := guestdInfo{Version: "1", ProtocolMin: 1, ProtocolMax: 1, Digest: digest.FromString("x")}
	one, err := guestdLayer([]byte("binary"), info)
	require.NoError(t, err)
	two, err := guestdLayer([]byte("binary"), info)
	require.NoError(t, err)
	require.True(t, bytes.Equal(one, two))
	tr := tar.NewReader(bytes.NewReader(one))
	for _, want := range []tar.Header{
		{Name: "usr/lib/waggle/", Mode: 0o755}, {Name: "usr/lib/waggle/guestd", Mode: 0o755}, {Name: "usr/lib/waggle/guestd.json", Mode: 0o644},
	} {
		hdr, err := tr.Next()
		require.NoError(t, err)
		require.Equal(t, want.Name, hdr.Name)
		require.Equal(t, want.Mode, hdr.Mode)
		require.Zero(t, hdr.Uid+hdr.Gid)
		require.Zero(t, hdr.ModTime.Unix())
	}
	_, err = tr.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestBakeRefused(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	importImage(t, s, "base", "x")
	script := t.TempDir() + "/script"
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755))
	for name, tc := range map[string]struct {
		src, path string
		want      error
		text      string
	}{
		"dynamic":    {"base", staticBinary(t, hostMachine(), elf.PT_INTERP), ErrGuestd, "CGO_ENABLED=0"},
		"wrong arch": {"base", staticBinary(t, elf.EM_S390), ErrArch, "guestd-linux-" + runtime.GOARCH},
		"no binary":  {"base", script, ErrGuestd, "no Linux binary"},
		"missing":    {"base", "/nonexistent", ErrGuestd, "/nonexistent"},
		"no image":   {"waggle/none", script, ErrNotFound, "task images"},
	} {
		_, err := s.Bake(t.Context(), tc.src, "dst", Guestd{Path: tc.path}, ResolveOptions{})
		require.ErrorIs(t, err, tc.want, name)
		require.ErrorContains(t, err, tc.text, name)
	}
	list, err := s.List()
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestRemoveKeepsSharedBlobs(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	base := importImage(t, s, "base", "body")
	_, err := s.Bake(t.Context(), "base", "baked", Guestd{Path: staticBinary(t, hostMachine())}, ResolveOptions{})
	require.NoError(t, err)
	list, err := s.List()
	require.NoError(t, err)
	require.Equal(t, []string{"baked:latest", "base:latest"}, []string{list[0].Ref, list[1].Ref})
	require.NoError(t, s.Remove(t.Context(), "base"))
	baked, err := s.Inspect("baked")
	require.NoError(t, err)
	require.Equal(t, "body", readLayers(t, baked)["file"])
	_, err = s.Inspect("base")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, s.Remove(t.Context(), "baked"))
	require.Equal(t, []string{"index.json"}, files(t, s))
	require.ErrorIs(t, s.Remove(t.Context(), "baked"), ErrNotFound)
	_, err = base.Layers[0].Open(t.Context())
	require.ErrorIs(t, err, ErrNotFound)
}

func TestCollectWaitsForWriters(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	release, err := s.lease(t.Context())
	require.NoError(t, err)
	_, err = s.putDocument(t.Context(), []byte("no name holds it yet"))
	require.NoError(t, err)
	freed, err := s.Collect()
	require.NoError(t, err)
	require.Zero(t, freed)
	require.Len(t, files(t, s), 1)
	release()
	freed, err = s.Collect()
	require.NoError(t, err)
	require.EqualValues(t, len("no name holds it yet"), freed)
	require.Empty(t, files(t, s))
}

func TestDamagedStore(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	img := importImage(t, s, "base", "body")
	path, err := s.blobPath(img.Layers[0].Digest)
	require.NoError(t, err)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	raw[len(raw)-1] ^= 1
	for _, damaged := range [][]byte{raw, raw[:len(raw)/2]} {
		require.NoError(t, os.WriteFile(path, damaged, 0o644))
		r, err := img.Layers[0].Open(t.Context())
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, r)
		require.ErrorIs(t, err, ErrCorrupt)
		require.NotErrorIs(t, err, io.ErrUnexpectedEOF, "the tar is not to blame")
		require.ErrorContains(t, err, "import it again")
		require.NoError(t, r.Close())
	}

	path, err = s.blobPath(img.Digest)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("{}"), 0o644))
	_, err = s.Resolve(t.Context(), "base", ResolveOptions{})
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "import it again")
	list, err := s.List()
	require.NoError(t, err)
	require.Len(t, list, 1, "it is listed, so that it can be removed")
	require.Contains(t, list[0].Damaged, "import it again")
	require.NoError(t, s.Remove(t.Context(), "base"))

	require.NoError(t, os.WriteFile(filepath.Join(s.root, "index.json"), []byte("{"), 0o644))
	_, err = s.List()
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "delete it")
}

// TestReplacedIsSwept: a name that means something else now keeps nothing of what
// it meant before, and an import that fails nothing of what had arrived.
func TestReplacedIsSwept(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	g := Guestd{Path: staticBinary(t, hostMachine())}
	importImage(t, s, "app", "first")
	_, err := s.Bake(t.Context(), "app", "app", g, ResolveOptions{})
	require.NoError(t, err)
	require.Len(t, files(t, s), 5, "index, manifest, configuration and two layers")
	importImage(t, s, "app", "second")
	before := files(t, s)
	require.Len(t, before, 4)
	whole := makeTar(t, map[string]string{"f": strings.Repeat("x", 100<<10)})
	_, err = s.ImportRootfs(t.Context(), bytes.NewReader(whole[:50<<10]), "app", "", Config{})
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = s.ImportRootfs(t.Context(), bytes.NewReader(whole), "app", "z80", Config{})
	require.ErrorIs(t, err, ErrArch)
	require.ErrorContains(t, err, "amd64 and arm64")
	require.Equal(t, before, files(t, s))
}

func TestConcurrentNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			s, err := Open(dir)
			if err == nil {
				_, err = s.ImportRootfs(t.Context(), bytes.NewReader(makeTar(t, map[string]string{"f": string(rune('a' + i))})), "img"+string(rune('a'+i)), "", Config{})
			}
			if err == nil && i%3 == 0 {
				err = s.Remove(t.Context(), "img"+string(rune('a'+i)))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := Open(dir)
	require.NoError(t, err)
	list, err := s.List()
	require.NoError(t, err)
	require.Len(t, list, 8)
	for _, img := range list {
		require.NotEmpty(t, readLayers(t, img), img.Ref)
	}
	b, err := json.Marshal(list)
	require.NoError(t, err)
	require.Contains(t, string(b), `"ref":"imgb:latest"`)
}
