// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// previewConns is the most connections to one port of an environment.
	previewConns = 64
	// previewIdle is short: an open connection is activity of the environment.
	previewIdle   = 10 * time.Second
	previewHeader = 256 << 10 // bytes of a response's header
	previewWait   = 5 * time.Minute
)

// previewPattern is the first label of a preview's host name.
var previewPattern = regexp.MustCompile(`^([1-9][0-9]{0,4})-(env-[a-z2-7]{8})$`)

// DialFunc connects to a port of an environment's loopback.
type DialFunc func(ctx context.Context, environment string, port int) (net.Conn, error)

// previewTarget is what a host name means. It is judged by its first label alone: a
// name of this form, whatever follows, is never the server's own.
func previewTarget(host string) (env string, port int, base string, ok bool) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	label, base, _ := strings.Cut(strings.ToLower(strings.TrimSuffix(name, ".")), ".")
	m := previewPattern.FindStringSubmatch(label)
	if m == nil {
		return "", 0, "", false
	}
	port, err = strconv.Atoi(m[1])
	if err != nil || port > 65535 {
		port = 0 // is refused
	}
	return m[2], port, base, true
}

// previews are the web servers of environments, each an origin of its own. What they
// serve is untrusted: it reaches nothing of this server, and what a browser holds for
// this server does not reach it.
type previews struct {
	edge  *Edge
	keys  *signer
	proxy *httputil.ReverseProxy
}

type targetKey struct{}

type target struct {
	env  string
	port int
	// origin is the preview's own, as the browser sees it.
	origin string
}

func newPreviews(e *Edge) *previews {
	p := &previews{edge: e, keys: newSigner()}
	p.proxy = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		ModifyResponse: p.modify,
		ErrorHandler:   p.failed,
		FlushInterval:  -1, // streams come as they are written
		ErrorLog:       slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
		Transport: &http.Transport{
			DialContext:            p.dial,
			DisableCompression:     true,
			MaxConnsPerHost:        previewConns,
			IdleConnTimeout:        previewIdle,
			ResponseHeaderTimeout:  previewWait,
			MaxResponseHeaderBytes: previewHeader,
		},
	}
	return p
}

// dial connects to the host name that rewrite has made.
func (p *previews) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	env, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial preview: %w", err)
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return nil, fmt.Errorf("dial preview: %w", err)
	}
	return p.edge.cfg.Dial(ctx, env, port)
}

// serve answers a request for a preview's host.
func (p *previews) serve(w http.ResponseWriter, r *http.Request) {
	env, port, base, _ := previewTarget(r.Host)
	switch {
	case p.edge.cfg.Dial == nil || port == 0:
		http.Error(w, "no such preview", http.StatusNotFound)
		return
	case base != "localhost" && (p.edge.cfg.PreviewDomain == "" || base != p.edge.cfg.PreviewDomain):
		http.Error(w, "no such preview: its domain is not WAGGLE_PREVIEW_DOMAIN", http.StatusNotFound)
		return
	}
	if p.edge.cfg.Tokens != nil && !p.admit(w, r, env, port) {
		return
	}
	scheme := "http"
	if r.TLS != nil || strings.HasPrefix(p.edge.cfg.PublicURL, "https:") {
		scheme = "https"
	}
	bodyDue(w, time.Time{}) // how long a page may send is its server's question
	t := target{env: env, port: port, origin: scheme + "://" + r.Host}
	p.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, t)))
}

// rewrite makes a request what the environment's server expects: one from its own
// machine. Servers of developers refuse other names, and WebSockets of other origins.
func (p *previews) rewrite(r *httputil.ProxyRequest) {
	t, _ := r.In.Context().Value(targetKey{}).(target)
	local := "localhost:" + strconv.Itoa(t.port)
	r.Out.URL.Scheme, r.Out.URL.Host = "http", net.JoinHostPort(t.env, strconv.Itoa(t.port))
	r.Out.Host = local
	r.Out.Header.Set("X-Forwarded-Host", r.In.Host)
	r.Out.Header.Set("X-Forwarded-Proto", t.origin[:strings.Index(t.origin, ":")])
	if r.In.Header.Get("Origin") == t.origin {
		r.Out.Header.Set("Origin", "http://"+local)
	}
	if token, ok := bearerOf(r.In); ok && p.edge.cfg.Tokens != nil {
		if _, ours := p.edge.cfg.Tokens.identify(token); ours {
			r.Out.Header.Del("Authorization")
		}
	}
	removeCookie(r.Out, previewCookie)
}

// modify keeps what a page sets to its own host, and its redirects on it.
func (p *previews) modify(resp *http.Response) error {
	t, _ := resp.Request.Context().Value(targetKey{}).(target)
	cookies := resp.Cookies()
	resp.Header.Del("Set-Cookie")
	for _, c := range cookies {
		if c.Name == previewCookie {
			continue
		}
		c.Domain = "" // else it would be sent to the other previews too
		if v := c.String(); v != "" {
			resp.Header.Add("Set-Cookie", v)
		}
	}
	if to, err := url.Parse(resp.Header.Get("Location")); err == nil && to.Host == "localhost:"+strconv.Itoa(t.port) {
		to.Scheme, to.Host, _ = strings.Cut(t.origin, "://")
		resp.Header.Set("Location", to.String())
	}
	return nil
}

func (p *previews) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		return // the browser has gone
	}
	bodyDue(w, time.Now().Add(bodyDeadline)) // as for whoever is refused
	t, _ := r.Context().Value(targetKey{}).(target)
	http.Error(w, fmt.Sprintf("nothing answers on port %d of %s: %v. The server there must listen on 127.0.0.1 or 0.0.0.0; "+
		"execute with background, or with keep_children, keeps it running.", t.port, t.env, err), http.StatusBadGateway)
}
