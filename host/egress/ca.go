// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/stacklok/waggle/host/remedy"
)

// maxBundle bounds a CA bundle, in bytes; the usual ones have 200–500 KiB.
const maxBundle = 4 << 20

// bundlePaths are where distributions keep the one-file bundle.
var bundlePaths = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Arch, Alpine
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/pki/tls/certs/ca-bundle.crt",                  // older RHEL
	"/etc/ssl/ca-bundle.pem",                            // openSUSE
	"/etc/ssl/cert.pem",                                 // macOS, OpenBSD
}

// HostCABundle returns the certificate authorities that the host trusts, in PEM,
// and the file that they came from. The file is path if that is set
// (WAGGLE_GUEST_CA), else SSL_CERT_FILE if set, else the distribution's. A file
// that was named must be good; of the distribution's the first that exists is
// taken.
func HostCABundle(path string) (bundle []byte, source string, err error) {
	if path != "" {
		bundle, err = readBundle(path)
		return bundle, path, wrapBundle("WAGGLE_GUEST_CA", err)
	}
	if path = os.Getenv("SSL_CERT_FILE"); path != "" {
		bundle, err = readBundle(path)
		return bundle, path, wrapBundle("SSL_CERT_FILE", err)
	}
	return firstBundle(bundlePaths)
}

func firstBundle(paths []string) (bundle []byte, source string, err error) {
	for _, path := range paths {
		bundle, err := readBundle(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("read CA bundle: %w", err)
		}
		return bundle, path, nil
	}
	return nil, "", errors.New("no CA bundle found on this host: " + remedy.RunApt("ca-certificates") + ", or set WAGGLE_GUEST_CA to a PEM file")
}

// readBundle reads the certificates of a regular file and nothing else in it: a
// key that lies in the same file is not the guest's business.
func readBundle(path string) ([]byte, error) {
	info, err := os.Stat(path) // before Open, which waits at a FIFO
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxBundle {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, maxBundle>>20)
	}
	bundle, err := certificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return bundle, nil
}

// certificates keeps the PEM certificates of data, of which Go must understand
// one at least. It is stricter than other libraries, so one that it cannot read
// is no reason to do without the rest.
func certificates(data []byte) ([]byte, error) {
	var out bytes.Buffer
	var good int
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			good++
		}
		block.Headers = nil
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	if good == 0 {
		return nil, errors.New("has no valid certificate in PEM format")
	}
	return out.Bytes(), nil
}

func wrapBundle(setting string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read CA bundle of %s: %w", setting, err)
}
