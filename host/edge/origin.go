// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// refuse returns why a request is not served, or "". The endpoint has no
// authentication, so a web page must not reach it: neither directly (its Origin
// is not loopback; the Streamable HTTP transport requires this check) nor by a
// name that it rebinds to 127.0.0.1 (its Host is not loopback). Programs send no
// Origin.
func refuse(r *http.Request) string {
	if !isLoopback(r.Host) {
		return "refused: the Host header must be localhost or a loopback address"
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !isLoopback(u.Host) {
			return "refused: only pages of this machine (a loopback Origin) may call this server"
		}
	}
	return ""
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
