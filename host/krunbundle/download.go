// SPDX-License-Identifier: Apache-2.0

package krunbundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	// maxArchive bounds what is fetched, in bytes: the firmware, the largest, has
	// some 10 MiB.
	maxArchive = 256 << 20
	// answerTimeout bounds the wait for an answer, quietTimeout a pause in it.
	answerTimeout = 30 * time.Second
	quietTimeout  = 60 * time.Second
)

// ErrChecksum is an archive that is not the one that was pinned.
var ErrChecksum = errors.New("wrong checksum")

// client goes through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name, as
// they are now.
func client() *http.Client {
	proxy := httpproxy.FromEnvironment().ProxyFunc()
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }
	t.ResponseHeaderTimeout = answerTimeout
	t.DisableKeepAlives = true // two files, and then no more
	return &http.Client{Transport: t}
}

// download returns the archive of that name, which has the checksum.
func download(ctx context.Context, base string, a archive) ([]byte, error) {
	address := strings.TrimSuffix(base, "/") + "/" + a.name
	content, err := get(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w; a mirror can be named with --url (WAGGLE_KRUN_URL)", address, err)
	}
	sum := sha256.Sum256(content)
	if got := hex.EncodeToString(sum[:]); !strings.EqualFold(got, a.sha256) {
		return nil, fmt.Errorf("%w: %s has SHA-256 %s, pinned is %s: nothing was installed. "+
			"It is not the release's file, or the pin is not", ErrChecksum, address, got, a.sha256)
	}
	return content, nil
}

func get(ctx context.Context, address string) ([]byte, error) {
	getCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(getCtx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client().Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	}
	quiet := time.AfterFunc(quietTimeout, func() {
		cancel(fmt.Errorf("nothing came for %s", quietTimeout))
	})
	defer quiet.Stop()
	var content bytes.Buffer
	body := &watched{r: io.LimitReader(resp.Body, maxArchive+1), quiet: quiet}
	switch n, err := io.Copy(&content, body); {
	case err != nil && getCtx.Err() != nil:
		return nil, context.Cause(getCtx)
	case err != nil:
		return nil, fmt.Errorf("after %d bytes: %w", n, err)
	case n > maxArchive:
		return nil, fmt.Errorf("the file is larger than %d MiB", maxArchive>>20)
	}
	return content.Bytes(), nil
}

// watched puts the end off while something comes.
type watched struct {
	r     io.Reader
	quiet *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.quiet.Reset(quietTimeout)
	return n, err
}
