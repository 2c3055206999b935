// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"
)

// halves serves the layers of an image up to their middle, and the rest when it is told.
type halves struct {
	*front
	img     v1.Image
	layers  []string // hex digests
	release chan struct{}
}

func serveHalves(t *testing.T, registry string) *halves {
	t.Helper()
	img := newImage(t, runtime.GOARCH)
	second, err := random.Layer(4<<20, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	require.NoError(t, err)
	img, err = mutate.AppendLayers(img, second)
	require.NoError(t, err)
	upload(t, registry+"/team/bars:v1", img)
	h := &halves{front: newFront(t, registry, false), img: img, release: make(chan struct{})}
	layers, err := img.Layers()
	require.NoError(t, err)
	for _, l := range layers {
		d, err := l.Digest()
		require.NoError(t, err)
		h.layers = append(h.layers, d.Hex)
	}
	h.disturb = func(w http.ResponseWriter, r *http.Request, whole func() []byte) bool {
		for _, hex := range h.layers {
			if strings.HasSuffix(r.URL.Path, hex) && r.Header.Get("Authorization") != "" {
				body := whole()
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				_, _ = w.Write(body[:2<<20])
				_ = http.NewResponseController(w).Flush()
				select {
				case <-h.release:
				case <-r.Context().Done():
				}
				_, _ = w.Write(body[2<<20:])
				return true
			}
		}
		return false
	}
	return h
}

// screen collects what a terminal is sent.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// onTerminal starts waggle with standard error on a terminal of 100 columns.
func (p *person) onTerminal(args ...string) (shown *screen, wait func() (stdout string)) {
	p.t.Helper()
	exe, err := os.Executable()
	require.NoError(p.t, err)
	master, slave, err := pty.Open()
	require.NoError(p.t, err)
	require.NoError(p.t, pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 100}))
	cmd := exec.CommandContext(p.t.Context(), exe, args...)
	cmd.Env = append([]string{
		asWaggle + "=1", "HOME=" + p.home, "TERM=xterm", "WAGGLE_DATA_DIR=" + filepath.Join(p.home, "data"),
	}, p.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, slave
	require.NoError(p.t, cmd.Start())
	require.NoError(p.t, slave.Close())
	shown = &screen{}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(shown, master) // fails when the last writer has gone
	}()
	return shown, func() string {
		p.t.Helper()
		err := cmd.Wait()
		<-read
		require.NoError(p.t, master.Close())
		require.NoError(p.t, err, shown.String())
		return out.String()
	}
}

// TestPullShown: a pull shows a bar with its rate for each layer on a terminal, plain lines
// elsewhere, and with --quiet nothing but the digest.
func TestPullShown(t *testing.T) {
	t.Parallel()
	registry := startRegistry(t)
	h := serveHalves(t, registry)
	ref := h.host() + "/team/bars:v1"
	somebody := func() *person {
		p := newPerson(t)
		p.env = []string{"WAGGLE_AUTH_FILE=" + p.write("auth.json", fmt.Sprintf(credentials, h.host()))}
		return p
	}
	shown, wait := somebody().onTerminal("image", "pull", "--json", ref)
	quiet, waitQuiet := somebody().onTerminal("image", "pull", "--quiet", ref)
	for _, hex := range h.layers {
		line := regexp.MustCompile(hex[:12] + ` +\d\.\d MiB / [34]\.0 MiB \[=*>?-*\] +\d\d% +\d+\.\d [KMG]iB/s`)
		require.Eventually(t, func() bool { return line.MatchString(shown.String()) }, pullLimit, 20*time.Millisecond, "%s", shown)
	}
	close(h.release)
	var images []struct{ Digest string }
	require.NoError(t, json.Unmarshal([]byte(wait()), &images), "the standard output is JSON alone")
	require.Equal(t, digestOf(t, h.img), images[0].Digest)
	for _, hex := range h.layers {
		require.Regexp(t, hex[:12]+` .*100%`, shown.String())
	}
	require.Equal(t, digestOf(t, h.img)+"\n", waitQuiet())
	require.Empty(t, quiet.String())

	out, errs, err := somebody().waggle("image", "pull", ref)
	require.NoError(t, err, errs)
	require.Contains(t, out, digestOf(t, h.img))
	require.NotContains(t, errs, "\x1b", "no terminal, no bars")
	require.NotContains(t, errs, "\r")
}
