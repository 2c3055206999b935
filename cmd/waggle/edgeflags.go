// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/stacklok/waggle/host/edge"
	"github.com/stacklok/waggle/host/environment"
)

// edgeFlags say who may call the MCP endpoint, and how.
type edgeFlags struct {
	ListenAddr        string   `help:"Address of the MCP endpoint. One that is not loopback needs tokens." default:"127.0.0.1:8080" env:"WAGGLE_LISTEN_ADDR" placeholder:"HOST:PORT"`
	AuthTokensFile    string   `help:"File with a line NAME TOKEN for each caller, or NAME sha256:HEX. Callers then send Authorization: Bearer TOKEN, and environments belong to the name that made them." env:"WAGGLE_AUTH_TOKENS_FILE" placeholder:"FILE"`
	TLSCert           string   `name:"tls-cert" help:"PEM file with the certificate chain to serve TLS with. Read again when it changes." env:"WAGGLE_TLS_CERT" placeholder:"FILE"`
	TLSKey            string   `name:"tls-key" help:"PEM file with its key." env:"WAGGLE_TLS_KEY" placeholder:"FILE"`
	AllowedOrigins    []string `help:"Origins of web pages that may call, beside those of this machine, separated by commas." env:"WAGGLE_ALLOWED_ORIGINS" placeholder:"ORIGIN"`
	PublicURL         string   `name:"public-url" help:"URL that clients reach this server by, when that is not what they say themselves, as behind a proxy." env:"WAGGLE_PUBLIC_URL" placeholder:"URL"`
	PreviewDomain     string   `help:"Name below which previews have theirs: all names below it must lead to this server. Default: localhost, for browsers of this machine." env:"WAGGLE_PREVIEW_DOMAIN" placeholder:"NAME"`
	RequestsPerSecond float64  `help:"Most requests a second of one caller, and twice as many at once; 0 is no limit." default:"50" env:"WAGGLE_REQUESTS_PER_SECOND"`
	MaxCalls          int      `help:"Most calls of one caller at the same time, streams included; 0 is no limit." default:"100" env:"WAGGLE_MAX_CALLS"`
}

// check says what is wrong with the settings. Files are looked at by config.
func (f *edgeFlags) checkEdge() error {
	err := errors.Join(
		within("WAGGLE_REQUESTS_PER_SECOND", "requests-per-second", f.RequestsPerSecond, 0, 1e6),
		within("WAGGLE_MAX_CALLS", "max-calls", f.MaxCalls, 0, 1e6),
	)
	if bad := edge.CheckAddr(f.ListenAddr, f.AuthTokensFile != ""); bad != nil {
		err = errors.Join(err, fmt.Errorf("WAGGLE_LISTEN_ADDR (--listen-addr): %w", bad))
	}
	if (f.TLSCert == "") != (f.TLSKey == "") {
		err = errors.Join(err, errors.New("WAGGLE_TLS_CERT (--tls-cert) and WAGGLE_TLS_KEY (--tls-key) go together: set both or neither"))
	}
	for _, o := range f.AllowedOrigins {
		if bad := edge.CheckOrigin(o); bad != nil {
			err = errors.Join(err, fmt.Errorf("WAGGLE_ALLOWED_ORIGINS (--allowed-origins): %w", bad))
		}
	}
	if f.PublicURL != "" {
		u, bad := url.Parse(f.PublicURL)
		if bad != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			err = errors.Join(err, fmt.Errorf("WAGGLE_PUBLIC_URL (--public-url) %.200q: write a URL such as https://waggle.example, without /mcp", f.PublicURL))
		}
	}
	if f.PreviewDomain != "" && !domainPattern.MatchString(f.PreviewDomain) {
		err = errors.Join(err, fmt.Errorf("WAGGLE_PREVIEW_DOMAIN (--preview-domain) %.200q: write a name such as preview.example.com", f.PreviewDomain))
	}
	return err
}

var domainPattern = regexp.MustCompile(`^(?i)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// config reads the files and returns the edge's part of them.
func (f *edgeFlags) config() (edge.Config, error) {
	cfg := edge.Config{
		WithIdentity: environment.WithOwner, AllowedOrigins: f.AllowedOrigins, PublicURL: f.PublicURL, PreviewDomain: strings.ToLower(f.PreviewDomain),
		RequestsPerSecond: f.RequestsPerSecond, MaxCalls: f.MaxCalls,
	}
	var err error
	if f.AuthTokensFile != "" {
		if cfg.Tokens, err = edge.ReadTokensFile(f.AuthTokensFile); err != nil {
			return cfg, fmt.Errorf("WAGGLE_AUTH_TOKENS_FILE (--auth-tokens-file): %w", err)
		}
	}
	if f.TLSCert != "" {
		if cfg.TLS, err = edge.TLS(f.TLSCert, f.TLSKey); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

func (f *edgeFlags) listen(ctx context.Context) (net.Listener, error) {
	return edge.Listen(ctx, f.ListenAddr, f.AuthTokensFile != "")
}

// url is the endpoint's, as a client of this machine reaches it.
func (f *edgeFlags) url(addr net.Addr) string {
	if _, tcp := addr.(*net.TCPAddr); !tcp {
		return ""
	}
	scheme := "http"
	if f.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + addr.String() + "/mcp"
}

// warn says what an operator may have overlooked.
func (f *edgeFlags) warn(log *slog.Logger) {
	host, _, _ := net.SplitHostPort(f.ListenAddr) // Validate has split it
	ip := net.ParseIP(host)
	if f.AuthTokensFile != "" && f.TLSCert == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		log.Warn("tokens travel in clear text: set WAGGLE_TLS_CERT and WAGGLE_TLS_KEY, or let a proxy do TLS", "listen_addr", f.ListenAddr)
	}
}
