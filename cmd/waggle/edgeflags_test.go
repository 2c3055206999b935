// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEdgeFlags: each setting that cannot be meant is named, with what to do.
func TestEdgeFlags(t *testing.T) {
	t.Parallel()
	good := edgeFlags{ListenAddr: "127.0.0.1:8080", RequestsPerSecond: 50, MaxCalls: 100}
	require.NoError(t, good.checkEdge())
	for want, change := range map[string]func(*edgeFlags){
		"WAGGLE_LISTEN_ADDR (--listen-addr)":                 func(f *edgeFlags) { f.ListenAddr = "0.0.0.0:8080" },
		"WAGGLE_TLS_CERT (--tls-cert) and WAGGLE_TLS_KEY":    func(f *edgeFlags) { f.TLSCert = "cert.pem" },
		"WAGGLE_ALLOWED_ORIGINS (--allowed-origins): origin": func(f *edgeFlags) { f.AllowedOrigins = []string{"*"} },
		"WAGGLE_PUBLIC_URL (--public-url)":                   func(f *edgeFlags) { f.PublicURL = "waggle.example" },
		"WAGGLE_REQUESTS_PER_SECOND (--requests-per-second)": func(f *edgeFlags) { f.RequestsPerSecond = -1 },
		"WAGGLE_PREVIEW_DOMAIN (--preview-domain)":           func(f *edgeFlags) { f.PreviewDomain = "*.example.com" },
		"WAGGLE_MAX_CALLS (--max-calls)":                     func(f *edgeFlags) { f.MaxCalls = -1 },
	} {
		f := good
		change(&f)
		require.ErrorContains(t, f.checkEdge(), want)
	}
	public := good
	public.ListenAddr, public.AuthTokensFile = "0.0.0.0:8080", filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, public.checkEdge())
	_, err := public.config()
	require.ErrorContains(t, err, "WAGGLE_AUTH_TOKENS_FILE (--auth-tokens-file): open tokens")
	require.NoError(t, os.WriteFile(public.AuthTokensFile, []byte("alice 0123456789abcdef"), 0o600))
	cfg, err := public.config()
	require.NoError(t, err)
	require.NotNil(t, cfg.Tokens)
}
