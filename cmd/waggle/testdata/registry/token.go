// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	issuer  = "test"
	service = "registry"
)

// may is what users may ask for. Their password is "secret".
var may = map[string][]string{"user": {"pull", "push"}, "reader": {"pull"}}

// tokens is a server of bearer tokens, as registries of the world have one.
type tokens struct {
	signer jose.Signer
}

// newTokens makes a key and has config ask for tokens that are signed with it. The
// certificate goes into file.
func newTokens(config *configuration.Configuration, realm, file string) (*tokens, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: issuer}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	config.Auth = configuration.Auth{"token": configuration.Parameters{
		"realm": realm, "issuer": issuer, "service": service, "rootcertbundle": file,
	}}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(der)}))
	if err != nil {
		return nil, fmt.Errorf("make signer: %w", err)
	}
	return &tokens{signer: signer}, nil
}

// ServeHTTP gives whoever has the password a token for what they may, and whoever names
// nobody one for nothing.
func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, named := r.BasicAuth()
	if named && (password != "secret" || may[user] == nil) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	claims := token.ClaimSet{
		Issuer: issuer, Subject: user, Audience: []string{service}, JWTID: rand.Text(),
		NotBefore: time.Now().Add(-time.Minute).Unix(), Expiration: time.Now().Add(5 * time.Minute).Unix(), IssuedAt: time.Now().Unix(),
	}
	for _, scope := range r.URL.Query()["scope"] {
		kind, rest, _ := strings.Cut(scope, ":")
		colon := strings.LastIndexByte(rest, ':')
		if colon < 0 {
			continue
		}
		granted := slices.DeleteFunc(strings.Split(rest[colon+1:], ","), func(a string) bool { return !slices.Contains(may[user], a) })
		claims.Access = append(claims.Access, &token.ResourceActions{Type: kind, Name: rest[:colon], Actions: granted})
	}
	signed, err := jwt.Signed(s.signer).Claims(claims).Serialize()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": signed, "expires_in": 300}) // a client that has gone needs none
}
