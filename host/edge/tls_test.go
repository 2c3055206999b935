// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
)

// pair writes a certificate for 127.0.0.1 with that serial number, and its key.
func pair(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
		// The clock of a file system may be coarse; a renewal is never so soon.
		stamp := time.Now().Add(time.Duration(serial) * time.Second)
		require.NoError(t, os.Chtimes(file, stamp, stamp))
	}
}

// TestTLS: the endpoint is served with TLS alone, and a renewed certificate without a
// restart; one that is broken leaves the old one in use.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	_, err := edge.TLS(certFile, "")
	require.ErrorContains(t, err, "WAGGLE_TLS_KEY")
	_, err = edge.TLS(certFile, keyFile)
	require.ErrorContains(t, err, certFile)
	pair(t, certFile, keyFile, 1)
	config, err := edge.TLS(certFile, keyFile)
	require.NoError(t, err)

	e, err := edge.New(edge.Config{MCP: newMCP(&tools{}), TLS: config})
	require.NoError(t, err)
	ln, err := edge.Listen(t.Context(), "127.0.0.1:0", false)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx, ln, time.Second) }()

	serial := func() int64 {
		// Each look is a connection of its own. The client trusts what it is shown:
		// which certificate that is, is what is asked.
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + ln.Addr().String() + "/healthz")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	require.EqualValues(t, 1, serial())
	pair(t, certFile, keyFile, 2)
	require.EqualValues(t, 2, serial())
	require.NoError(t, os.WriteFile(keyFile, []byte("broken"), 0o600))
	require.EqualValues(t, 2, serial())
	plain, err := http.Get("http://" + ln.Addr().String() + "/healthz")
	require.NoError(t, err)
	require.NoError(t, plain.Body.Close())
	require.Equal(t, http.StatusBadRequest, plain.StatusCode)
	stop()
	require.NoError(t, <-served)
}
