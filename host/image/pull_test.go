// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
)

func TestPullFromRegistry(t *testing.T) {
	t.Parallel()
	var gets atomic.Int32
	host := startRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256") {
				gets.Add(1)
			}
			h.ServeHTTP(w, r)
		})
	})
	src := testImage(t, runtime.GOARCH, "one", strings.Repeat("two", 1<<20))
	push(t, host+"/team/app:v1", src)
	want, err := src.Digest()
	require.NoError(t, err)

	s := openStore(t)
	var seen []Progress
	img, err := s.Resolve(t.Context(), host+"/team/app:v1", ResolveOptions{Progress: func(p Progress) { seen = append(seen, p) }})
	require.NoError(t, err)
	require.Equal(t, want.String(), img.Digest.String(), "the digest is the registry's")
	require.Equal(t, host+"/team/app:v1", img.Ref)
	require.Equal(t, Config{
		Env: []string{"PATH=/usr/bin"}, User: "worker", WorkingDir: "/srv",
		Entrypoint: []string{"/entry"}, Labels: map[string]string{"team": "data"},
	}, img.Config)
	require.Equal(t, "one", readLayers(t, img)["f0"])
	require.EqualValues(t, 3, gets.Load())
	require.Equal(t, PhaseResolve, seen[0].Phase, "nobody else pulls it")
	last := seen[len(seen)-1]
	require.Equal(t, PhasePull, last.Phase)
	require.Equal(t, last.Total, last.Done)

	for _, ref := range []string{"docker://" + host + "/team/app:v1", want.String()} {
		require.Equal(t, img.Digest, resolve(t, s, ref).Digest, ref)
	}
	require.Equal(t, img.Digest, resolve(t, s, host+"/team/app@"+want.String()).Digest)
	require.EqualValues(t, 3, gets.Load(), "blobs come once")
}

func TestPullRefreshAndSharedLayers(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, nil)
	s := openStore(t)
	push(t, host+"/app:latest", testImage(t, runtime.GOARCH, "base", "v1"))
	first := resolve(t, s, host+"/app")
	push(t, host+"/app:latest", testImage(t, runtime.GOARCH, "base", "v2"))
	require.Equal(t, first.Digest, resolve(t, s, host+"/app").Digest, "a known name is not looked up again")
	second, err := s.Resolve(t.Context(), host+"/app", ResolveOptions{Refresh: true})
	require.NoError(t, err)
	require.NotEqual(t, first.Digest, second.Digest)
	require.Equal(t, first.Layers[0].Digest, second.Layers[0].Digest)
	_, err = s.Collect()
	require.NoError(t, err)
	require.Len(t, files(t, s), 5, "index, manifest, configuration and two layers")
}

func TestPullOnce(t *testing.T) {
	t.Parallel()
	var gets atomic.Int32
	host := startRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256") {
				gets.Add(1)
			}
			h.ServeHTTP(w, r)
		})
	})
	push(t, host+"/app:v1", testImage(t, runtime.GOARCH, "a", "b"))
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			s, err := Open(dir) // a handle of its own, as another process has
			if err == nil {
				_, err = s.Resolve(t.Context(), host+"/app:v1", ResolveOptions{})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 3, gets.Load())
}

func TestPullArchitectures(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, nil)
	both := pushIndex(t, host+"/both:v1", runtime.GOARCH, otherArch())
	pushIndex(t, host+"/other:v1", otherArch(), "s390x")
	push(t, host+"/single:v1", testImage(t, otherArch(), "x"))
	s := openStore(t)
	img := resolve(t, s, host+"/both:v1")
	require.Equal(t, runtime.GOARCH, img.Arch)
	require.Equal(t, both.String(), img.Digest.String())
	before := files(t, s)
	for _, ref := range []string{"/other:v1", "/single:v1"} {
		_, err := s.Resolve(t.Context(), host+ref, ResolveOptions{})
		require.ErrorIs(t, err, ErrArch)
		require.ErrorContains(t, err, "linux/"+otherArch())
		require.ErrorContains(t, err, "this host runs linux/"+runtime.GOARCH)
		require.Equal(t, before, files(t, s))
	}
}

// pushIndex returns the digest of the first image.
func pushIndex(t *testing.T, ref string, archs ...string) v1.Hash {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, "application/vnd.oci.image.index.v1+json")
	var first v1.Hash
	for i, arch := range archs {
		img := testImage(t, arch, "for "+arch)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		if i == 0 {
			var err error
			first, err = img.Digest()
			require.NoError(t, err)
		}
	}
	tag, err := name.NewTag(ref, name.Insecure)
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(tag, idx))
	return first
}

func indexDigest(t *testing.T, ref string) string {
	t.Helper()
	tag, err := name.NewTag(ref, name.Insecure)
	require.NoError(t, err)
	desc, err := remote.Get(tag)
	require.NoError(t, err)
	return desc.Digest.String()
}

func TestPullDamaged(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 1<<16)
	interrupted := map[string]bool{"cut short": true}
	damage := map[string]func(w http.ResponseWriter, body []byte){
		"cut short": func(w http.ResponseWriter, body []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:len(body)/2])
		},
		"says what it has": func(w http.ResponseWriter, body []byte) { _, _ = w.Write(body[:len(body)/2]) },
		"another byte": func(w http.ResponseWriter, body []byte) {
			body[len(body)/2] ^= 1
			_, _ = w.Write(body)
		},
		"too long": func(w http.ResponseWriter, body []byte) { _, _ = w.Write(append(body, "more"...)) },
	}
	for what, spoil := range damage {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			img := testImage(t, runtime.GOARCH, "good", big)
			layers, err := img.Layers()
			require.NoError(t, err)
			bad, err := layers[1].Digest()
			require.NoError(t, err)
			host := startRegistry(t, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, bad.String()) {
						h.ServeHTTP(w, r)
						return
					}
					rec := httptest.NewRecorder()
					h.ServeHTTP(rec, r)
					spoil(w, rec.Body.Bytes())
				})
			})
			push(t, host+"/app:v1", img)
			s := openStore(t)
			_, err = s.Resolve(t.Context(), host+"/app:v1", ResolveOptions{})
			require.ErrorContains(t, err, bad.String())
			if interrupted[what] {
				require.ErrorIs(t, err, ErrInterrupted)
				require.Len(t, files(t, s), 2, "the configuration and the other layer, whole")
				_, err := s.Collect()
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, ErrCorrupt)
			}
			require.Empty(t, files(t, s), "nothing is left behind")
		})
	}
}

func TestPullCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	host := startRegistry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256") {
				cancel()
				<-r.Context().Done() // the client hangs up
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	push(t, host+"/app:v1", testImage(t, runtime.GOARCH, "x"))
	s := openStore(t)
	_, err := s.Resolve(ctx, host+"/app:v1", ResolveOptions{})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, files(t, s))
}

func TestFileTransports(t *testing.T) {
	t.Parallel()
	src := testImage(t, runtime.GOARCH, "one", "two")
	dir := t.TempDir()
	lay, err := layout.Write(filepath.Join(dir, "oci"), empty.Index)
	require.NoError(t, err)
	require.NoError(t, lay.AppendImage(src))
	tag, err := name.NewTag("example.test/app:v1")
	require.NoError(t, err)
	require.NoError(t, tarball.WriteToFile(filepath.Join(dir, "docker.tar"), tag, src))
	pack, err := exec.CommandContext(t.Context(), "tar", "-C", filepath.Join(dir, "oci"), "-cf", filepath.Join(dir, "oci.tar"), ".").CombinedOutput()
	require.NoError(t, err, "%s", pack)
	writeDir(t, filepath.Join(dir, "dir"), src)
	for _, ref := range []string{
		"oci:" + filepath.Join(dir, "oci"), "oci-archive:" + filepath.Join(dir, "oci.tar"),
		"docker-archive:" + filepath.Join(dir, "docker.tar"), "dir:" + filepath.Join(dir, "dir"),
	} {
		s := openStore(t)
		img := resolve(t, s, ref)
		require.Equal(t, map[string]string{"f0": "one", "f1": "two"}, readLayers(t, img))
		require.Equal(t, "worker", img.Config.User)
		again, err := s.Inspect(ref)
		require.NoError(t, err)
		require.Equal(t, img.Digest, again.Digest)
		require.NoError(t, s.Remove(t.Context(), ref))
	}
	for _, ref := range []string{"oci:/nonexistent", "docker-archive:/nonexistent.tar", "oci-archive:/nonexistent.tar", "dir:/nonexistent"} {
		_, err := openStore(t).Resolve(t.Context(), ref, ResolveOptions{})
		require.ErrorIs(t, err, ErrNotFound, ref)
	}
}

// writeDir writes what `skopeo copy … dir:PATH` does.
func writeDir(t *testing.T, path string, img v1.Image) {
	t.Helper()
	raw, err := img.RawManifest()
	require.NoError(t, err)
	config, err := img.RawConfigFile()
	require.NoError(t, err)
	configName, err := img.ConfigName()
	require.NoError(t, err)
	parts := map[string][]byte{"version": []byte("Directory Transport Version: 1.1\n"), "manifest.json": raw, configName.Hex: config}
	layers, err := img.Layers()
	require.NoError(t, err)
	for _, l := range layers {
		d, err := l.Digest()
		require.NoError(t, err)
		r, err := l.Compressed()
		require.NoError(t, err)
		parts[d.Hex], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	require.NoError(t, os.Mkdir(path, 0o700))
	for name, body := range parts {
		require.NoError(t, os.WriteFile(filepath.Join(path, name), body, 0o600))
	}
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, nil)
	s := openStore(t)
	noArchive := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(noArchive, []byte(strings.Repeat("no archive ", 200)), 0o600))
	emptyLayout := openStore(t).root
	require.NoError(t, os.WriteFile(filepath.Join(emptyLayout, "index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`), 0o600))
	cases := map[string]struct {
		o    ResolveOptions
		want error
		text string
	}{
		"waggle/python":                     {ResolveOptions{}, ErrNotFound, "task images"},
		host + "/no/such:v1":                {ResolveOptions{}, ErrNotFound, "check its name and tag"},
		"alpine":                            {ResolveOptions{LocalOnly: true}, ErrNotFound, "local store"},
		"UPPER/case":                        {ResolveOptions{}, ErrReference, "docker://"},
		"":                                  {ResolveOptions{}, ErrReference, "NAME[:TAG]"},
		"sha256:" + strings.Repeat("0", 64): {ResolveOptions{}, ErrNotFound, "local store"},
		"docker://127.0.0.1:1/app":          {ResolveOptions{}, ErrUnreachable, "network and proxy"},
		"docker-archive:" + noArchive:       {ResolveOptions{}, ErrCorrupt, "not what the prefix says"},
		"oci-archive:" + noArchive:          {ResolveOptions{}, ErrCorrupt, "not what the prefix says"},
		"oci:" + emptyLayout + ":none":      {ResolveOptions{}, ErrNotFound, "no image of this name"},
	}
	for ref, tc := range cases {
		_, err := s.Resolve(t.Context(), ref, tc.o)
		require.ErrorIs(t, err, tc.want, ref)
		require.ErrorContains(t, err, tc.text)
	}
	require.Empty(t, files(t, s))
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for domain, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:80": true, "[::1]:5000": true,
		"ghcr.io": false, "10.0.0.1:5000": false, "localhost.example.test": false,
	} {
		require.Equal(t, want, isLoopback(domain), domain)
	}
}
