// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificate is a pair of files, read again when one of them has changed: whoever
// renews it need not restart the server.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed [2]time.Time // of the files, when they were loaded
}

// TLS returns a configuration that serves the certificate chain and the key of two
// PEM files. Files that are broken when they are renewed leave the old pair in use.
func TLS(certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("TLS takes a certificate and its key: set WAGGLE_TLS_CERT and WAGGLE_TLS_KEY both")
	}
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("WAGGLE_TLS_CERT, WAGGLE_TLS_KEY: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

func (c *certificate) times() (times [2]time.Time) {
	for i, file := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(file); err == nil { // else load says what is wrong
			times[i] = info.ModTime()
		}
	}
	return times
}

func (c *certificate) load() error {
	times := c.times()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	c.changed = times // a broken pair is not read again for each handshake
	if err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	c.loaded = &pair
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times() != c.changed {
		_ = c.load() // the old one may still be good; if not, the client says so
	}
	return c.loaded, nil
}
