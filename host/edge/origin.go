// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// CheckOrigin says whether o can stand in an Origin header (RFC 6454 section 6.1).
func CheckOrigin(o string) error {
	u, err := url.Parse(o)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != o {
		return fmt.Errorf("origin %.200q: write scheme://host or scheme://host:port, such as https://agent.example", o)
	}
	return nil
}

// refuse returns why a request is not served, or "". A web page must not reach the
// endpoint: not directly, when its Origin is not allowed (the Streamable HTTP
// transport requires this check), nor by a name that it rebinds to this machine, when
// no token protects the endpoint and the Host is not loopback. Programs send no Origin.
func (e *Edge) refuse(r *http.Request) string {
	if e.cfg.Tokens == nil && !isLoopback(r.Host) {
		return "refused: the Host header must be localhost or a loopback address"
	}
	for _, origin := range r.Header.Values("Origin") {
		if !e.allowed(origin) {
			return "refused: pages of this origin may not call this server; its operator can allow it by WAGGLE_ALLOWED_ORIGINS"
		}
	}
	return ""
}

// allowed says whether pages of an origin may call: those of this machine, and those
// that the operator has named.
func (e *Edge) allowed(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	// A preview's pages are the guests', whoever has allowed them.
	if _, _, _, preview := previewTarget(u.Host); preview {
		return false
	}
	return slices.Contains(e.cfg.AllowedOrigins, origin) || ((u.Scheme == "http" || u.Scheme == "https") && isLoopback(u.Host))
}

// cors answers what a browser asks before a page's request, and lets the page read
// the answers (Fetch standard, section 3.2). refuse has seen the request. It reports
// whether the request is answered.
func (e *Edge) cors(w http.ResponseWriter, r *http.Request) (answered bool) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, WWW-Authenticate, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, Last-Event-ID, "+
		"Mcp-Session-Id, MCP-Protocol-Version, Mcp-Method, Mcp-Name")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// isLoopback judges a host with or without a port.
func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
