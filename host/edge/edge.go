// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/server"
)

const (
	// defaultMaxBody bounds one request: write_file of a large source file,
	// escaped as JSON, fits several times over.
	defaultMaxBody = 16 << 20
	// defaultKeepAlive is below the 30 s after which common proxies give up on
	// a silent response.
	defaultKeepAlive = 15 * time.Second
	// minSessionTTL is how long a session lives without a request.
	minSessionTTL = time.Hour
	// bodyDeadline is the time in which a body must have arrived.
	bodyDeadline = 30 * time.Second
)

// Config says what the edge serves. MCP is required.
type Config struct {
	// MCP holds the tools.
	MCP *server.MCPServer
	// Tokens are those of the callers. Nil: nobody is asked for one, and the caller
	// must be on this machine.
	Tokens *Tokens
	// WithIdentity tells the tools whose call it is. May be nil.
	WithIdentity func(ctx context.Context, identity string) context.Context
	// AllowedOrigins are those of web pages that may call, beside those of this
	// machine.
	AllowedOrigins []string
	// PublicURL is how clients reach this server, without /mcp. Empty: as they say.
	PublicURL string
	// RequestsPerSecond and MaxCalls, at once, bound each identity. Zero: no bound.
	RequestsPerSecond float64
	MaxCalls          int
	// TLS is served with. Nil: plain HTTP.
	TLS *tls.Config
	// Dial connects to a port of an environment, for previews. Nil: there are none.
	Dial DialFunc
	// PreviewDomain is the name that those of previews are below. Empty: localhost.
	PreviewDomain string
	// Metrics is served at /metrics, to whoever may call. May be nil.
	Metrics http.Handler
	// Ready says why the server cannot take calls now; nil when it can. It is
	// asked by /readyz. May be nil.
	Ready func(context.Context) error
	// MaxBody is the most bytes of one request. Zero: 16 MiB.
	MaxBody int64
	// KeepAlive is the time between comments on a silent stream. Zero: 15 s.
	KeepAlive time.Duration
	// LongestCall is the longest that one call may run. Sessions live longer
	// than that, because mcp-go's sweeper does not look at calls in flight.
	LongestCall time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Edge is an http.Handler for /mcp, /healthz and /readyz. It may be called
// concurrently.
type Edge struct {
	cfg      Config
	log      *slog.Logger
	mcp      *server.StreamableHTTPServer
	sessions *sessions
	limits   *limits
	previews *previews
	addr     atomic.Pointer[net.Addr] // that is listened on
	mux      *http.ServeMux
}

// New builds the edge. Serve or Close ends what it started.
func New(cfg Config) (*Edge, error) {
	if cfg.MCP == nil {
		return nil, errors.New("edge: Config.MCP is required")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = defaultKeepAlive
	}
	e := &Edge{
		cfg: cfg, log: cfg.Logger, sessions: newSessions(), limits: newLimits(cfg.RequestsPerSecond, cfg.MaxCalls, cfg.MaxBody),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.mcp = server.NewStreamableHTTPServer(cfg.MCP,
		server.WithSessionIdManager(e.sessions),
		server.WithSessionIdleTTL(minSessionTTL+cfg.LongestCall),
		server.WithStreamableHTTPLogger(e.log),
		server.WithDisableLocalhostProtection(true), // refuse is stricter, and knows of tokens
	)
	e.previews = newPreviews(e)
	e.mux = e.routes()
	return e, nil
}

// routes are those of the whole server. What anybody may see tells nothing.
func (e *Edge) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/mcp", e.forCallers(e.limited(e.serveMCP)))
	mux.HandleFunc("GET /healthz", e.serveHealth)
	mux.HandleFunc("GET /readyz", e.serveReady)
	if e.cfg.Metrics != nil {
		mux.Handle("GET /metrics", e.forCallers(e.cfg.Metrics.ServeHTTP))
	}
	if e.cfg.Tokens != nil {
		mux.HandleFunc("GET "+metadataPath, e.serveMetadata)
		mux.HandleFunc("GET "+metadataPath+"/mcp", e.serveMetadata)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "nothing here: the MCP endpoint is /mcp", http.StatusNotFound)
	})
	return mux
}

// forCallers serves those who have a token, where one is asked for.
func (e *Edge) forCallers(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r, ok := e.authenticate(w, r); ok {
			next(w, r)
		}
	}
}

// ServeHTTP checks where the request goes to and comes from before anything reads it.
// The host of a preview leads to that alone.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		// net/http reads what is left of a body before it answers, which would have no
		// end where it comes a byte at a time. readBody has deadlines of its own,
		// and what goes to a preview has none.
		bodyDue(w, time.Now().Add(bodyDeadline))
	}
	if _, _, _, ok := previewTarget(r.Host); ok {
		e.previews.serve(w, r)
		return
	}
	if reason := e.refuse(r); reason != "" {
		e.log.Warn("refused request", "reason", reason, "remote", r.RemoteAddr)
		http.Error(w, reason, http.StatusForbidden)
		return
	}
	if e.cors(w, r) {
		return
	}
	e.mux.ServeHTTP(w, r)
}

func (e *Edge) serveMCP(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(context.WithValue(r.Context(), edgeKey{}, e))
	switch r.Method {
	case http.MethodPost:
		e.servePost(w, r)
	case http.MethodGet, http.MethodDelete:
		// mcp-go would open a stream for any id and make a session for none, and call
		// it a success to end one that it does not know.
		switch id := r.Header.Get(server.HeaderKeySessionID); {
		case isModern(r.Header.Get(headerProtocol), ""):
			e.mcp.ServeHTTP(w, r) // refuses in the words of its protocol
		case id == "":
			http.Error(w, "a "+r.Method+" needs the Mcp-Session-Id that initialize returned", http.StatusBadRequest)
		default:
			e.serveSession(w, r, id)
		}
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		http.Error(w, "method not allowed: MCP requests are POSTs", http.StatusMethodNotAllowed)
	}
}

// serveSession passes on what concerns a session of the caller's.
func (e *Edge) serveSession(w http.ResponseWriter, r *http.Request, id string) {
	leave, ok := e.sessions.enter(id, Identity(r.Context()))
	if !ok {
		http.Error(w, "unknown session: send initialize again", http.StatusNotFound)
		return
	}
	defer leave()
	e.mcp.ServeHTTP(w, r)
}

// listening is the address, nil when there is none.
func (e *Edge) listening() net.Addr {
	addr := e.addr.Load()
	if addr == nil {
		return nil
	}
	if _, tcp := (*addr).(*net.TCPAddr); !tcp {
		return nil
	}
	return *addr
}

// serveHealth says that the process serves HTTP, no more.
func (e *Edge) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// serveReady says whether an environment could be created.
func (e *Edge) serveReady(w http.ResponseWriter, r *http.Request) {
	if e.cfg.Ready != nil {
		if err := e.cfg.Ready(r.Context()); err != nil {
			text := "not ready"
			if e.cfg.Tokens == nil { // else anybody may ask, and the reason names paths
				text += ": " + err.Error()
			}
			http.Error(w, text, http.StatusServiceUnavailable)
			return
		}
	}
	e.serveHealth(w, r)
}
