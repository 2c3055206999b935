// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testCA returns a certificate and its key in PEM.
func testCA(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &private.PublicKey, private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func writeFile(t *testing.T, data ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, bytes.Join(data, nil), 0o600))
	return path
}

func TestHostCABundleOrder(t *testing.T) {
	named, _ := testCA(t)
	env, _ := testCA(t)
	namedPath, envPath := writeFile(t, named), writeFile(t, env)

	t.Setenv("SSL_CERT_FILE", envPath)
	bundle, source, err := HostCABundle(namedPath)
	require.NoError(t, err)
	require.Equal(t, namedPath, source)
	require.Equal(t, named, bundle)

	bundle, source, err = HostCABundle("")
	require.NoError(t, err)
	require.Equal(t, envPath, source)
	require.Equal(t, env, bundle)

	missing := filepath.Join(t.TempDir(), "missing.pem")
	_, _, err = HostCABundle(missing)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "WAGGLE_GUEST_CA")
	t.Setenv("SSL_CERT_FILE", missing)
	_, _, err = HostCABundle("")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "SSL_CERT_FILE")
}

func TestFirstBundle(t *testing.T) {
	t.Parallel()
	cert, _ := testCA(t)
	good, bad := writeFile(t, cert), writeFile(t, []byte("nothing"))
	missing := filepath.Join(t.TempDir(), "missing.pem")
	_, source, err := firstBundle([]string{missing, good, bad})
	require.NoError(t, err)
	require.Equal(t, good, source)
	_, _, err = firstBundle([]string{missing, bad, good})
	require.ErrorContains(t, err, "no valid certificate")
	_, _, err = firstBundle([]string{missing})
	require.ErrorContains(t, err, "install -y ca-certificates")
}

func TestReadBundle(t *testing.T) {
	t.Parallel()
	cert, key := testCA(t)
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("not DER")})

	bundle, err := readBundle(writeFile(t, []byte("# comment\n"), key, cert, broken))
	require.NoError(t, err)
	require.Equal(t, append(bytes.Clone(cert), broken...), bundle, "no key, no comment")

	for want, path := range map[string]string{
		"no valid certificate":  writeFile(t, key, broken),
		"larger than 4 MiB":     writeFile(t, cert, make([]byte, maxBundle)),
		"is not a regular file": t.TempDir(),
		"no such file":          filepath.Join(t.TempDir(), "missing"),
		"fifo is not a regular": fifo(t),
	} {
		_, err := readBundle(path)
		require.ErrorContains(t, err, want)
	}
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	return path
}
