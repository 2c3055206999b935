// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.podman.io/image/v5/docker"
)

// disturbed is a registry with one image whose large layer comes through disturb, which
// gets the number of the request, from 1.
type disturbed struct {
	ref string

	mu       sync.Mutex
	requests []string // of the layer: their Range header
	sent     int64    // bytes of the layer
	size     int64
}

func (d *disturbed) ServeHTTP(w http.ResponseWriter, r *http.Request, next http.Handler, disturb func(int, http.ResponseWriter, []byte) bool) {
	rec := httptest.NewRecorder()
	whole := r.Clone(r.Context())
	whole.Header.Del("Range") // which that registry does not know without an end
	next.ServeHTTP(rec, whole)
	d.mu.Lock()
	d.requests = append(d.requests, r.Header.Get("Range"))
	n := len(d.requests)
	d.mu.Unlock()
	counted := &countingWriter{ResponseWriter: w, d: d}
	if !disturb(n, counted, rec.Body.Bytes()) {
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(counted, r, "", time.Time{}, bytes.NewReader(rec.Body.Bytes()))
	}
}

type countingWriter struct {
	http.ResponseWriter
	d *disturbed
}

func (c *countingWriter) Write(b []byte) (int, error) {
	c.d.mu.Lock()
	c.d.sent += int64(len(b))
	c.d.mu.Unlock()
	n, err := c.ResponseWriter.Write(b)
	if f, ok := c.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	return n, err
}

// startDisturbed serves it; what is not the layer passes other, which may be nil.
func startDisturbed(t *testing.T, disturb func(int, http.ResponseWriter, []byte) bool, other func(http.ResponseWriter, *http.Request) bool) *disturbed {
	t.Helper()
	noise := make([]byte, 3<<20) // does not compress
	for i := range noise {
		noise[i] = byte(i*i>>7 ^ i*31>>3)
	}
	img := testImage(t, runtime.GOARCH, "small", string(noise))
	layers, err := img.Layers()
	require.NoError(t, err)
	big, err := layers[1].Digest()
	require.NoError(t, err)
	d := &disturbed{}
	d.size, err = layers[1].Size()
	require.NoError(t, err)
	host := startRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method != http.MethodGet:
				next.ServeHTTP(w, r)
			case strings.HasSuffix(r.URL.Path, "/blobs/"+big.String()):
				d.ServeHTTP(w, r, next, disturb)
			case other == nil || !other(w, r):
				next.ServeHTTP(w, r)
			}
		})
	})
	d.ref = host + "/app:v1"
	push(t, d.ref, img)
	return d
}

// cut sends half of what it has and then breaks the connection.
func cut(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body[:len(body)/2])
	panic(http.ErrAbortHandler)
}

func TestPullResumes(t *testing.T) {
	t.Parallel()
	d := startDisturbed(t, func(n int, w http.ResponseWriter, body []byte) bool {
		if n == 1 {
			cut(w, body)
		}
		return false
	}, nil)
	img := resolve(t, openStore(t), d.ref)
	require.Equal(t, "small", readLayers(t, img)["f0"], "its digests fit, too")
	require.Equal(t, []string{"", fmt.Sprintf("bytes=%d-", d.size/2)}, d.requests)
	require.Equal(t, d.size, d.sent, "no byte comes twice")
}

// TestPullRestarts: a blob that cannot be resumed comes again from its beginning, after
// any kind of trouble.
func TestPullRestarts(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(int, http.ResponseWriter, []byte) bool{
		"ranges are ignored": func(n int, w http.ResponseWriter, body []byte) bool {
			if n <= 2 { // 2 is the attempt to resume, answered by another cut whole
				cut(w, body)
			}
			return false
		},
		"server errors": func(n int, w http.ResponseWriter, _ []byte) bool {
			if n < maxTries {
				w.WriteHeader(http.StatusBadGateway)
			}
			return n < maxTries
		},
		"closed before an answer": func(n int, _ http.ResponseWriter, _ []byte) bool {
			if n < maxTries {
				panic(http.ErrAbortHandler)
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDisturbed(t, disturb, nil)
			var why []string
			img, err := openStore(t).Resolve(t.Context(), d.ref, ResolveOptions{Progress: func(p Progress) {
				if p.Phase == PhaseRetry {
					why = append(why, p.Why)
				}
			}})
			require.NoError(t, err)
			require.Equal(t, "small", readLayers(t, img)["f0"])
			require.NotEmpty(t, why)
			require.Contains(t, why[0], "trying again in")
		})
	}
}

// TestPullStalls: a source that stops sending without a word is asked again.
func TestPullStalls(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	d := startDisturbed(t, func(n int, w http.ResponseWriter, body []byte) bool {
		if n == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body[:len(body)/2])
			<-released
		}
		return n == 1
	}, nil)
	t.Cleanup(func() { close(released) }) // before the server's, which waits for its handlers
	s := openStore(t)
	s.stall = 300 * time.Millisecond
	var why string
	_, err := s.Resolve(t.Context(), d.ref, ResolveOptions{Progress: func(p Progress) { why += p.Why }})
	require.NoError(t, err)
	require.Contains(t, why, errStalled.Error())
}

// TestPullGivesUp: what has come whole when a pull fails is not fetched by the next one.
func TestPullGivesUp(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	down, others := true, 0
	d := startDisturbed(t, func(_ int, w http.ResponseWriter, _ []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return down
	}, func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(r.URL.Path, "/blobs/") {
			others++
		}
		return false
	})
	s := openStore(t)
	_, err := s.Resolve(t.Context(), d.ref, ResolveOptions{})
	require.ErrorIs(t, err, ErrInterrupted)
	require.Len(t, d.requests, maxTries)
	list, err := s.List()
	require.NoError(t, err)
	require.Empty(t, list, "no name")
	require.Len(t, files(t, s), 2)
	mu.Lock()
	down = false
	mu.Unlock()
	resolve(t, s, d.ref)
	require.Equal(t, 2, others, "configuration and small layer, once")
}

// TestManifestRetries: the first answer of a registry may be trouble too, and what will
// not change is asked for once.
func TestManifestRetries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status, fail, asked int
		want                error
	}{
		"trouble":      {http.StatusInternalServerError, 2, 3, nil},
		"for good":     {http.StatusInternalServerError, 99, maxTries, ErrInterrupted},
		"not there":    {http.StatusNotFound, 99, 1, ErrNotFound},
		"unauthorized": {http.StatusUnauthorized, 99, 1, ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			asked := 0
			d := startDisturbed(t, func(int, http.ResponseWriter, []byte) bool { return false }, func(w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				if asked++; asked > tc.fail {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tc.status)
				switch tc.status {
				case http.StatusNotFound:
					_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
				case http.StatusUnauthorized:
					_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
				}
				return true
			})
			_, err := openStore(t).Resolve(t.Context(), d.ref, ResolveOptions{})
			require.ErrorIs(t, err, tc.want)
			require.Equal(t, tc.asked, asked)
		})
	}
}

func TestPassing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err           error
		fresh, during bool
	}{
		"refused":      {syscall.ECONNREFUSED, false, true},
		"reset":        {fmt.Errorf("read: %w", syscall.ECONNRESET), true, true},
		"no route":     {syscall.EHOSTUNREACH, true, true},
		"cut":          {io.ErrUnexpectedEOF, true, true},
		"502":          {docker.UnexpectedHTTPStatusError{StatusCode: 502}, true, true},
		"418":          {docker.UnexpectedHTTPStatusError{StatusCode: 418}, false, false},
		"disk full":    {syscall.ENOSPC, false, false},
		"wrong digest": {fmt.Errorf("%w: x", ErrCorrupt), false, false},
		"unknown":      {errors.New("x"), false, false},
	} {
		require.Equal(t, tc.fresh, passing(tc.err, false), name)
		require.Equal(t, tc.during, passing(tc.err, true), name)
	}
}
