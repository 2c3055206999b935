// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stacklok/waggle/guestd/boot"
)

// store is where a distribution keeps the certificates that it trusts.
type store struct {
	bundle string
	// anchors is what the distribution makes bundle of when its package of
	// certificates changes.
	anchors string
}

// stores in the order in which they are looked for. The first one is made when
// an image has none.
var stores = []store{
	{"/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates"},                // Debian, Alpine
	{"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/pki/ca-trust/source/anchors"}, // Fedora
	{"/etc/ssl/ca-bundle.pem", "/etc/pki/trust/anchors"},                                      // SUSE
}

// trustVariables lead programs to the bundle that bring certificates of their
// own or look elsewhere.
var trustVariables = []string{
	"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT",
	"NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO",
}

// parseBundle returns the certificates of a PEM file in DER.
func parseBundle(data []byte) ([][]byte, error) {
	var certs [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			certs = append(certs, block.Bytes)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate found")
	}
	return certs, nil
}

// missing returns those of certs that bundle lacks. Certificates that Go cannot
// read are an error.
func missing(bundle []byte, certs [][]byte) ([][]byte, error) {
	have := make(map[[sha256.Size]byte]bool)
	old, _ := parseBundle(bundle) // an empty one has none
	for _, der := range old {
		have[sha256.Sum256(der)] = true
	}
	var fresh [][]byte
	for _, der := range certs {
		sum := sha256.Sum256(der)
		if have[sum] {
			continue
		}
		have[sum] = true
		if _, err := x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("parse certificate %s: %w", hex.EncodeToString(sum[:8]), err)
		}
		fresh = append(fresh, der)
	}
	return fresh, nil
}

// addTrust adds certificates to the stores that the image has.
func (s *Service) addTrust(m *boot.Machine, certs [][]byte) error {
	var found []store
	for _, st := range stores {
		if _, err := os.Stat(st.bundle); err == nil {
			found = append(found, st)
		}
	}
	if len(found) == 0 {
		found = stores[:1]
	}
	for _, st := range found {
		if err := addTo(m, st, certs); err != nil {
			return fmt.Errorf("trust certificates: %w", err)
		}
	}
	s.trustEnv = make(map[string]string, len(trustVariables))
	for _, name := range trustVariables {
		s.trustEnv[name] = found[0].bundle
	}
	s.applyEnv()
	return nil
}

func addTo(m *boot.Machine, st store, certs [][]byte) error {
	bundle, err := os.ReadFile(st.bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return makeStore(m, st, certs)
	}
	if err != nil {
		return err
	}
	fresh, err := missing(bundle, certs)
	if err != nil || len(fresh) == 0 {
		return err
	}
	out := bytes.NewBuffer(bundle)
	if n := len(bundle); n > 0 && bundle[n-1] != '\n' {
		out.WriteByte('\n')
	}
	for _, der := range fresh {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		out.Write(text)
		sum := sha256.Sum256(der)
		anchor := filepath.Join(st.anchors, "waggle-"+hex.EncodeToString(sum[:8])+".crt")
		if err := m.WriteFile(anchor, text, 0o644); err != nil {
			return err
		}
	}
	return m.WriteFile(st.bundle, out.Bytes(), 0o644)
}

// makeStore makes one for an image that has none. All of its certificates are in one
// file, which each machine has for itself: the anchors, of which the distribution's own
// package would make the bundle if it were installed, and until then the bundle too.
func makeStore(m *boot.Machine, st store, certs [][]byte) error {
	fresh, err := missing(nil, certs)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, der := range fresh {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	anchors := filepath.Join(st.anchors, "waggle.crt")
	if err := m.WriteFile(anchors, out.Bytes(), 0o644); err != nil {
		return err
	}
	return m.Symlink(anchors, st.bundle)
}
