// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// previewPath takes a signed URL and gives the browser a cookie for it.
	previewPath   = "/.waggle/preview"
	previewCookie = "waggle-preview"
	// previewLife is how long a signed URL and its cookie are good.
	previewLife = 12 * time.Hour
)

// signer makes and checks the right to see one port of one environment. Its key is as
// old as the process: a restarted server makes new URLs.
type signer struct{ key []byte }

func newSigner() *signer {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return &signer{key}
}

func (s *signer) mac(env string, port int, until string) string {
	h := hmac.New(sha256.New, s.key)
	_, _ = fmt.Fprintf(h, "preview\n%s\n%d\n%s", env, port, until) // never fails
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// grant is a right that ends at a time.
func (s *signer) grant(env string, port int, until time.Time) string {
	seconds := strconv.FormatInt(until.Unix(), 10)
	return seconds + "." + s.mac(env, port, seconds)
}

// check says whether a right is one for this port, and good now.
func (s *signer) check(grant, env string, port int, now time.Time) bool {
	seconds, mac, ok := strings.Cut(grant, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(s.mac(env, port, seconds))) {
		return false
	}
	until, err := strconv.ParseInt(seconds, 10, 64)
	return err == nil && now.Before(time.Unix(until, 0))
}

// admit says whether a browser may see a preview, or answers it: a signed URL becomes a
// cookie of this one host, and goes out of the address.
func (p *previews) admit(w http.ResponseWriter, r *http.Request, env string, port int) bool {
	if r.URL.Path == previewPath {
		grant := r.URL.Query().Get("grant")
		if !p.keys.check(grant, env, port, time.Now()) {
			http.Error(w, "this address has expired, or is not for this preview: call expose_port again", http.StatusForbidden)
			return false
		}
		http.SetCookie(w, &http.Cookie{
			Name: previewCookie, Value: grant, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
			Secure: r.TLS != nil || strings.HasPrefix(p.edge.cfg.PublicURL, "https:"), MaxAge: int(previewLife.Seconds()),
		})
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return false
	}
	if c, err := r.Cookie(previewCookie); err == nil && p.keys.check(c.Value, env, port, time.Now()) {
		return true
	}
	http.Error(w, "this preview needs the address that expose_port returns", http.StatusForbidden)
	return false
}

// removeCookie takes one cookie out of a request and leaves the others as they are.
func removeCookie(r *http.Request, name string) {
	cookies := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range cookies {
		if c.Name != name {
			r.AddCookie(c)
		}
	}
}

type edgeKey struct{}

// PreviewURL is the address of a port of an environment for the caller of ctx, and
// when it ends to be good; zero: not before the environment does.
func PreviewURL(ctx context.Context, env string, port int) (address string, until time.Time, err error) {
	e, _ := ctx.Value(edgeKey{}).(*Edge)
	if e == nil || e.cfg.Dial == nil || e.listening() == nil {
		return "", time.Time{}, errors.New("this server has no address that a browser could open: " +
			"`waggle forward " + env + " " + strconv.Itoa(port) + "` on its host makes the port reachable")
	}
	base, err := e.previewBase()
	if err != nil {
		return "", time.Time{}, err
	}
	base.Host = fmt.Sprintf("%d-%s.%s", port, env, base.Host)
	base.Path = "/"
	if e.cfg.Tokens == nil {
		return base.String(), time.Time{}, nil
	}
	until = time.Now().Add(previewLife)
	base.Path, base.RawQuery = previewPath, url.Values{"grant": {e.previews.keys.grant(env, port, until)}}.Encode()
	return base.String(), until, nil
}

// previewBase is the URL of which previews are below.
func (e *Edge) previewBase() (*url.URL, error) {
	addr := e.listening()
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return nil, fmt.Errorf("address of previews: %w", err)
	}
	base := &url.URL{Scheme: "http", Host: "localhost:" + port}
	if e.cfg.TLS != nil {
		base.Scheme = "https"
	}
	if e.cfg.PreviewDomain == "" {
		if !isLoopback(host) {
			return nil, errors.New("this server has no domain for previews: its operator gives it one by WAGGLE_PREVIEW_DOMAIN, " +
				"a name of which all names below lead to this server")
		}
		return base, nil
	}
	base.Host = net.JoinHostPort(e.cfg.PreviewDomain, port)
	if public, err := url.Parse(e.cfg.PublicURL); err == nil && public.Host != "" {
		base.Scheme, base.Host = public.Scheme, e.cfg.PreviewDomain
		if p := public.Port(); p != "" {
			base.Host = net.JoinHostPort(e.cfg.PreviewDomain, p)
		}
	}
	return base, nil
}
