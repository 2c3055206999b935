// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// metadataPath is where RFC 9728 puts what a client must know to get a token.
const metadataPath = "/.well-known/oauth-protected-resource"

type (
	identityKey struct{}
	localKey    struct{}
)

// Identity is whose request ctx belongs to: the name of the token, or "" where the
// server asks for none.
func Identity(ctx context.Context) string {
	name, _ := ctx.Value(identityKey{}).(string)
	return name
}

// authenticate returns the request with the identity of its caller, or answers it.
func (e *Edge) authenticate(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	if e.cfg.Tokens == nil || r.Context().Value(localKey{}) != nil {
		return r, true
	}
	presented, ok := bearerOf(r)
	if !ok {
		// Without credentials there is no error code (RFC 6750 section 3.1).
		e.challenge(w, r, "", "a bearer token is needed: Authorization: Bearer TOKEN, from the operator of this server")
		return nil, false
	}
	name, ok := e.cfg.Tokens.identify(presented)
	if !ok {
		e.log.Warn("unknown token", "remote", r.RemoteAddr)
		e.challenge(w, r, "invalid_token", "the token is not known here: ask the operator of this server for another one")
		return nil, false
	}
	ctx := context.WithValue(r.Context(), identityKey{}, name)
	if e.cfg.WithIdentity != nil {
		ctx = e.cfg.WithIdentity(ctx, name)
	}
	return r.WithContext(ctx), true
}

// bearerOf is the bearer token that a request carries.
func bearerOf(r *http.Request) (token string, ok bool) {
	const scheme = "Bearer "
	header := r.Header.Get("Authorization")
	if len(header) < len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimSpace(header[len(scheme):]), true
}

// Local serves the operator: whoever can open a socket in the run directory owns what
// is in it, so neither a token nor a Host is asked for. Until ready it answers 503.
func (e *Edge) Local(ready func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ready() {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the server is starting, or ending", http.StatusServiceUnavailable)
			return
		}
		e.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), localKey{}, true)))
	})
}

func (e *Edge) challenge(w http.ResponseWriter, r *http.Request, code, text string) {
	value := fmt.Sprintf("Bearer realm=%q, resource_metadata=%q", "waggle", e.base(r)+metadataPath)
	if code != "" {
		value += fmt.Sprintf(", error=%q, error_description=%q", code, text)
	}
	w.Header().Set("WWW-Authenticate", value)
	http.Error(w, text, http.StatusUnauthorized)
}

// base is the URL that clients reach this server by.
func (e *Edge) base(r *http.Request) string {
	if e.cfg.PublicURL != "" {
		return strings.TrimRight(e.cfg.PublicURL, "/")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// serveMetadata answers RFC 9728: tokens come in the header; who gives them out is
// the operator, not an authorization server.
func (e *Edge) serveMetadata(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// A client that has gone needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"resource": e.base(r) + "/mcp", "resource_name": "Waggle", "bearer_methods_supported": []string{"header"},
	})
}
