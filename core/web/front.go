package web

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// front is what every request passes first. It stands on the hot path: no
// locks, no buffers.
func (s *Server) front(w http.ResponseWriter, r *http.Request) {
	id := requestID(r.Header.Get("X-Request-Id"), s.o.Now())
	value := []string{id}
	h := w.Header()
	h["X-Request-Id"], h["X-Oneapi-Request-Id"] = value, value
	r = r.WithContext(core.WithRequestID(r.Context(), id))
	t := &tracker{ResponseWriter: w}
	defer s.rescue(t, r)
	if formatOfPath(r.URL.Path) == llm.Claude {
		h["Request-Id"] = value // where Anthropic's SDKs look
	}
	if r.Method == http.MethodOptions { // answered without a route
		boundBody(t, r)
		sendWithin(t, func() { s.answer(t, r) })
		return
	}
	s.answer(t, r)
}

// answer finds the route.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if !crossOrigin(r.URL.Path) || !s.cors(w, r) {
		s.echo.ServeHTTP(w, r)
	}
}

// rescue turns a panic into an error in the caller's format, or ends the
// connection where an answer has begun, so that it never looks complete.
func (s *Server) rescue(t *tracker, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	s.o.Logger.Error("panic", "path", r.URL.Path, "request_id", core.RequestID(r.Context()), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if t.status != 0 {
		panic(http.ErrAbortHandler)
	}
	s.refusePath(t, r, core.Errorf(core.CodeInternal, "internal error"))
}

// tracker knows whether an answer has begun, and with which status.
type tracker struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (t *tracker) WriteHeader(status int) {
	if t.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		t.status = status
	}
	t.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (t *tracker) Write(b []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	return t.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (t *tracker) Flush() { _ = t.FlushError() }

// FlushError reports a client that is gone, which Flush cannot.
func (t *tracker) FlushError() error {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	return http.NewResponseController(t.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach deadlines.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// requestID takes the client's id where it is sane, else makes one: the time in
// milliseconds, then 80 random bits. Ids that grow with time keep the log's index
// growing at its end.
func requestID(given string, now time.Time) string {
	if n := len(given); n >= 8 && n <= 64 && !strings.ContainsFunc(given, notIDRune) {
		return given
	}
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16|rand.Uint64()>>48)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	return hex.EncodeToString(id[:])
}

func notIDRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}

// isRelay reports whether a path belongs to the relay side.
func isRelay(path string) bool {
	return path == "/v1" || strings.HasPrefix(path, "/v1/") || path == "/v1beta" || strings.HasPrefix(path, "/v1beta/")
}

// isManage reports whether a path belongs to the management API.
func isManage(path string) bool { return path == "/api" || strings.HasPrefix(path, "/api/") }

// formatOfPath is the wire format that the callers of a path speak.
func formatOfPath(path string) llm.Format {
	switch {
	case strings.HasPrefix(path, "/v1/messages"):
		return llm.Claude
	case strings.HasPrefix(path, "/v1beta/openai/"):
		return llm.OpenAI
	case strings.HasPrefix(path, "/v1beta"), strings.HasPrefix(path, "/v1/models/") && strings.Contains(path, ":"):
		return llm.Gemini
	case strings.HasPrefix(path, "/v1/responses"):
		return llm.Responses
	}
	return llm.OpenAI
}

// refusePath answers an error of a path that no handler took, in the shape that
// its callers read. Only management methods get the envelope: New API answers an
// unknown /api path as an unknown /v1 one.
func (s *Server) refusePath(w http.ResponseWriter, r *http.Request, e *core.Error) {
	path := r.URL.Path
	if isManage(path) {
		secureHeaders(w.Header())
	}
	if !isRelay(path) {
		c := &call{s: s, w: w, r: r, ip: s.clientIP(r), route: &route{method: r.Method, path: "*", limit: limitWeb}}
		if isManage(path) {
			c.route.limit = limitAPI
		}
		if err := s.limitAddress(c); err != nil {
			c.fail(asError(err))
			return
		}
		if isManage(path) && e.Code != core.CodeInvalidURL {
			c.fail(e)
			return
		}
	}
	s.failFormat(w, r, formatOfPath(path), e)
}

// crossOrigin reports whether browsers of other origins may call a path: the
// routes that take an API key.
func crossOrigin(path string) bool {
	return isRelay(path) || strings.HasPrefix(path, "/dashboard/billing/") ||
		strings.HasPrefix(path, "/api/usage/token") || strings.HasPrefix(path, "/api/log/token")
}

// cors sets the headers and reports whether it answered a preflight. No
// credentials are allowed: keys travel in headers.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	h := w.Header()
	switch allowed := s.o.Config().Server.CORSOrigins; {
	case slices.Contains(allowed, "*"):
		h.Set("Access-Control-Allow-Origin", "*")
	case slices.Contains(allowed, origin):
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
	default:
		return false
	}
	h.Set("Access-Control-Expose-Headers", "*")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
		h.Add("Vary", "Access-Control-Request-Headers")
	}
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// secureHeaders are for replies that a browser must not interpret, frame or keep.
func secureHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// logAccess writes one line for a management request: the route and not the
// URL, since a query may hold what nobody should read.
func (c *call) logAccess() {
	level := slog.LevelInfo
	if c.route.caller == callRelay || c.route.caller == callAnyone && c.route.method == http.MethodGet {
		level = slog.LevelDebug // the usage log has it; probes and status
	}
	log := c.s.o.Logger
	if !log.Enabled(context.Background(), level) {
		return
	}
	status := 0
	if t, ok := c.w.(*tracker); ok {
		status = t.status
	}
	var user int64
	if c.user != nil {
		user = c.user.ID
	}
	log.LogAttrs(context.Background(), level, "request", slog.String("route", c.route.method+" "+c.route.path), slog.Int("status", status),
		slog.String("request_id", core.RequestID(c.ctx())), slog.String("ip", c.ip.String()), slog.Int64("user_id", user), slog.Int64("duration_ms", c.s.o.Now().Sub(c.began).Milliseconds()))
}
