// SPDX-License-Identifier: Apache-2.0

package krunbundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	runtimeName  = "go-microvm-runtime-linux-amd64.tar.gz"
	firmwareName = "go-microvm-firmware-linux-amd64.tar.gz"
)

// packed is an archive as go-microvm's release has it: one directory, named after
// the archive.
func packed(t *testing.T, name string, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	w := tar.NewWriter(zipped)
	top := strings.TrimSuffix(name, ".tar.gz") + "/"
	require.NoError(t, w.WriteHeader(&tar.Header{Name: top, Typeflag: tar.TypeDir, Mode: 0o755}))
	for file, text := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: top + file, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))}))
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, zipped.Close())
	return out.Bytes()
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// release is a server with both archives.
type release struct {
	*httptest.Server
	archives map[string][]byte
	asked    atomic.Int32
	// answer replaces what the server does. May be nil.
	answer http.HandlerFunc
}

func newRelease(t *testing.T) *release {
	t.Helper()
	r := &release{archives: map[string][]byte{
		runtimeName:  packed(t, runtimeName, map[string]string{"libkrun.so.1": "the library", "go-microvm-runner": "not ours", "VERSION": "v"}),
		firmwareName: packed(t, firmwareName, map[string]string{"libkrunfw.so.5": "the kernel", "LICENSE-GPL": "its licence", "VERSION": "v"}),
	}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		content, ok := r.archives[filepath.Base(req.URL.Path)]
		switch {
		case r.answer != nil:
			r.answer(w, req)
		case !ok:
			http.NotFound(w, req)
		default:
			_, _ = w.Write(content)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// options install that release into dir.
func (r *release) options(dir string) Options {
	pins := Pins{Release: "v9", Krun: "1.17.3", Firmware: "5.2.0", URL: r.URL + "/v9", SHA256: map[string]string{}}
	for name, content := range r.archives {
		pins.SHA256[name] = sum(content)
	}
	return Options{Pins: pins, Dir: dir, GOOS: "linux", GOARCH: "amd64", Progress: func(string) {}}
}

// nothing says that dir has no libraries, and no rest of an attempt.
func nothing(t *testing.T, dir string) {
	t.Helper()
	require.NoDirExists(t, Current(dir))
	left, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestInstall(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	o := r.options(filepath.Join(t.TempDir(), "data", "krun"))
	dir, err := Install(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, Current(o.Dir), dir)
	holds(t, dir)
	require.NoFileExists(t, filepath.Join(dir, "go-microvm-runner"))
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "libkrun.so.1"))
	require.NoError(t, err)
	require.Equal(t, "libkrun.so.1.17.3", filepath.Base(real), "the version is in the name")
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm(), "another user reads it")

	// What is there is not fetched again, a lost link is mended.
	require.EqualValues(t, 2, r.asked.Load())
	require.NoError(t, os.Remove(filepath.Join(dir, "libkrunfw.so.5")))
	_, err = Install(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 2, r.asked.Load())
	holds(t, dir)

	// What was changed is.
	require.NoError(t, os.WriteFile(real, []byte("not the library"), 0o644))
	_, err = Install(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 4, r.asked.Load())
	holds(t, dir)
}

func holds(t *testing.T, dir string) {
	t.Helper()
	for name, want := range map[string]string{"libkrun.so.1": "the library", "libkrunfw.so.5": "the kernel", "LICENSE-GPL": "its licence"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
}

// TestInstallRefuses: whatever the server gives that is not the pinned archive,
// nothing is installed.
func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*release, *Options)
		want   []string
		is     error
	}{
		"another file": {func(r *release, _ *Options) {
			r.archives[firmwareName] = packed(t, firmwareName, map[string]string{"libkrunfw.so.5": "another", "LICENSE-GPL": ""})
		}, []string{firmwareName, "pinned is", "nothing was installed"}, ErrChecksum},
		"cut, and the server does not say so": {func(r *release, _ *Options) {
			r.archives[runtimeName] = r.archives[runtimeName][:40]
		}, []string{runtimeName}, ErrChecksum},
		"cut on the way": {func(r *release, _ *Options) {
			r.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = w.Write([]byte("beginning"))
			}
		}, []string{"after 9 bytes", "unexpected EOF", "WAGGLE_KRUN_URL"}, nil},
		"404": {func(r *release, _ *Options) {
			delete(r.archives, runtimeName)
		}, []string{"/v9/" + runtimeName, "404 Not Found", "WAGGLE_KRUN_URL"}, nil},
		"nobody there": {func(r *release, _ *Options) { r.Close() }, []string{"connection refused", "WAGGLE_KRUN_URL"}, nil},
		"not pinned": {func(_ *release, o *Options) {
			o.Pins.SHA256[firmwareName] = ""
		}, []string{firmwareName, "/v9/sha256sums.txt", "WAGGLE_KRUN_SUMS", "pins.json"}, ErrNotPinned},
		"pinned badly": {func(_ *release, o *Options) {
			o.Pins.SHA256[firmwareName] = "abc"
		}, []string{firmwareName, "no SHA-256"}, nil},
		"without the library": {func(r *release, o *Options) {
			r.archives[runtimeName] = packed(t, runtimeName, map[string]string{"VERSION": "v"})
			o.Pins.SHA256[runtimeName] = sum(r.archives[runtimeName])
		}, []string{runtimeName, "has no libkrun.so.1"}, nil},
		"no archive": {func(r *release, o *Options) {
			r.archives[runtimeName] = []byte("text")
			o.Pins.SHA256[runtimeName] = sum([]byte("text"))
		}, []string{"unpack " + runtimeName}, nil},
		"another platform": {func(_ *release, o *Options) { o.GOOS = "plan9" }, []string{"plan9/amd64", "linux/arm64"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelease(t)
			o := r.options(filepath.Join(t.TempDir(), "krun"))
			tc.change(r, &o)
			_, err := Install(t.Context(), o)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			nothing(t, o.Dir)
		})
	}
}

// TestInstallKeeps: a failed fetch of another release leaves the libraries that
// are there, and one that succeeds replaces them.
func TestInstallKeeps(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	o := r.options(t.TempDir())
	dir, err := Install(t.Context(), o)
	require.NoError(t, err)
	next := newRelease(t)
	next.archives[runtimeName] = packed(t, runtimeName, map[string]string{"libkrun.so.1": "the next"})
	to := next.options(o.Dir)
	to.Pins.Krun = "1.19.0"
	next.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	_, err = Install(t.Context(), to)
	require.ErrorContains(t, err, "502")
	holds(t, dir)
	next.answer = nil
	_, err = Install(t.Context(), to)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, "libkrun.so.1"))
	require.NoError(t, err)
	require.Equal(t, "the next", string(text))
	require.FileExists(t, filepath.Join(dir, "libkrun.so.1.19.0"))
}

// TestInstallAtOnce: one fetches, the others wait for it.
func TestInstallAtOnce(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	o := r.options(t.TempDir())
	require.NoError(t, os.MkdirAll(filepath.Join(o.Dir, "extract-tmp-1"), 0o700), "of a killed one")
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() { _, errs[i] = Install(t.Context(), o) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, r.asked.Load())
	holds(t, Current(o.Dir))
	require.NoDirExists(t, filepath.Join(o.Dir, "extract-tmp-1"))
}

func TestInstallCancelled(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	o := r.options(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	r.answer = func(_ http.ResponseWriter, req *http.Request) {
		cancel()
		<-req.Context().Done()
	}
	_, err := Install(ctx, o)
	require.ErrorIs(t, err, context.Canceled)
	nothing(t, o.Dir)
}

// TestMirrorAndProxy: archives come from the mirror, by the proxy of the
// environment.
func TestMirrorAndProxy(t *testing.T) {
	r := newRelease(t)
	o := r.options(t.TempDir())
	o.Pins.URL, o.Mirror = "http://nowhere.invalid/v9", "http://mirror.invalid/bees/"
	var asked sync.Map
	r.answer = func(w http.ResponseWriter, req *http.Request) {
		asked.Store(req.URL.String(), true) // a proxy is asked for whole URLs
		_, _ = w.Write(r.archives[filepath.Base(req.URL.Path)])
	}
	t.Setenv("HTTP_PROXY", r.URL)
	t.Setenv("NO_PROXY", "")
	_, err := Install(t.Context(), o)
	require.NoError(t, err)
	for name := range r.archives {
		_, ok := asked.Load("http://mirror.invalid/bees/" + name)
		require.True(t, ok, name)
	}
	holds(t, Current(o.Dir))
}

func TestPins(t *testing.T) {
	t.Parallel()
	p, err := Pinned()
	require.NoError(t, err)
	for _, platform := range []string{"linux-amd64", "linux-arm64", "darwin-arm64"} {
		for _, kind := range []string{"runtime", "firmware"} {
			require.Contains(t, p.SHA256, fmt.Sprintf("go-microvm-%s-%s.tar.gz", kind, platform))
		}
	}
	require.Regexp(t, `^https://.*/`+p.Release+`$`, p.URL)

	want := strings.Repeat("ab", 32)
	p.SHA256 = map[string]string{runtimeName: "", firmwareName: want}
	with, err := p.With(strings.NewReader(want + "  " + runtimeName + "\n" + want + " *other.tar.gz\n\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{runtimeName: want, firmwareName: want}, with.SHA256)
	require.Empty(t, p.SHA256[runtimeName])
	_, err = p.With(strings.NewReader(strings.Repeat("cd", 32) + "  " + firmwareName))
	require.ErrorContains(t, err, "line 1: it says that "+firmwareName)
	require.ErrorContains(t, err, "is pinned")
	for text, want := range map[string]string{
		"":                                       "no archive of go-microvm " + p.Release + ", such as go-microvm-",
		want + "  other.tar.gz\n":                "no archive of go-microvm",
		want + "  " + runtimeName + "\nnoise":    `line 2: "noise" is not a SHA-256`,
		"\n\nabc  " + runtimeName:                `line 3: "abc  go-microvm-`,
		"SHA256 (" + runtimeName + ") = " + want: `line 1: "SHA256 (`,
		want + "\n":                              "line 1: ",
		strings.Repeat("x", 70_000):              "line 1: bufio.Scanner: token too long",
	} {
		_, err := p.With(strings.NewReader(text))
		require.ErrorContains(t, err, want, "%.80s", text)
	}
}
