package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/labstack/echo/v4"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/inmem"
)

// Server answers every request of the main listener.
type Server struct {
	o        Options
	echo     *echo.Echo
	table    []route
	validate *validator.Validate
	clientIP func(*http.Request) netip.Addr
	started  time.Time
	defaults *core.Options
	origins  atomic.Pointer[originCheck]
	fallback core.Counters // counts while Options.Counters fails
	login    *loginGuard

	countAlone atomic.Int64 // unix nanoseconds until which Options.Counters are not asked
	isSetUp    atomic.Bool  // a root was seen; there is no way back
	views      sync.Mutex   // one change of prices or groups at a time
	probes     probes
	prices     pricingCache
}

// New makes a Server. The error names what is missing.
func New(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	for name, missing := range map[string]bool{
		"Store": o.Store == nil, "Keys": o.Keys == nil, "Relay": o.Relay == nil, "Codecs": len(o.Codecs) == 0, "Snapshot": o.Snapshot == nil,
		"Config": o.Config == nil, "Ready": o.Ready == nil, "Counters": o.Counters == nil, "Logger": o.Logger == nil,
	} {
		if missing {
			return nil, fmt.Errorf("web: Options.%s is required", name)
		}
	}
	defaults, err := core.ParseOptions(nil)
	if err != nil {
		return nil, fmt.Errorf("default options: %w", err)
	}
	s := &Server{o: o, echo: echo.New(), validate: newValidator(), clientIP: NewClientIP(o.Config), started: o.Now(), defaults: defaults,
		fallback: inmem.NewCounters(inmem.Options{Now: o.Now})}
	s.login = newLoginGuard(s)
	s.echo.HTTPErrorHandler = s.unrouted
	s.table = s.routes()
	for i := range s.table {
		s.mount(&s.table[i])
	}
	return s, nil
}

// Handler is the front of the server.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.front) }

// NewHTTPServer is the recommended construction around a handler: bounded
// headers and idle times. There is no write time-out, since a stream may run for
// as long as upstream sends; the relay sets deadlines for each write.
func NewHTTPServer(cfg *config.Config, h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: cfg.Server.ReadHeaderTimeout,
		IdleTimeout:       cfg.Server.IdleTimeout,
		MaxHeaderBytes:    cfg.Server.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// snapshot is the current routing state; an empty one before the first.
func (s *Server) snapshot() *core.Snapshot {
	if snap := s.o.Snapshot(); snap != nil {
		return snap
	}
	return &core.Snapshot{Options: s.defaults}
}

// options are the current options.
func (s *Server) options() *core.Options { return s.snapshot().Options }

// mount registers one line of the table. Relay routes go straight to the relay.
func (s *Server) mount(rt *route) {
	h := func(e echo.Context) error {
		s.serve(rt, e.Response().Writer, e.Request(), paramOf(e))
		return nil
	}
	if rt.op != "" {
		op := rt.op
		h = func(e echo.Context) error {
			s.o.Relay.Serve(e.Response().Writer, e.Request(), op, "")
			return nil
		}
	}
	for _, path := range rt.paths() {
		for _, method := range rt.methods() {
			s.echo.Add(method, path, h)
		}
	}
}

// paramOf reads path parameters. Echo matches the escaped path where it differs
// from the plain one, so values are unescaped only then.
func paramOf(e echo.Context) func(string) string {
	return func(name string) string {
		v := e.Param(name)
		if e.Request().URL.RawPath == "" {
			return v
		}
		plain, err := url.PathUnescape(v)
		if err != nil {
			return v
		}
		return plain
	}
}

// unrouted answers what no route matched.
func (s *Server) unrouted(err error, e echo.Context) {
	w, r := e.Response().Writer, e.Request()
	boundBody(w, r)
	var he *echo.HTTPError
	if errors.As(err, &he) && he.Code == http.StatusMethodNotAllowed {
		if allow, ok := e.Get(echo.ContextKeyHeaderAllow).(string); ok {
			w.Header().Set("Allow", allow)
		}
		s.refusePath(w, r, core.Errorf(core.CodeMethodNotAllowed, "%s is not allowed for %s", r.Method, r.URL.Path))
		return
	}
	s.refusePath(w, r, core.Errorf(core.CodeInvalidURL, "Invalid URL (%s %s)", r.Method, r.URL.Path))
}

// manageTimeout bounds a management request, but for slow routes.
const manageTimeout = 15 * time.Second

// serve runs one management route: limits, caller, origin, handler.
func (s *Server) serve(rt *route, w http.ResponseWriter, r *http.Request, param func(string) string) {
	boundBody(w, r)
	if !rt.slow {
		ctx, cancel := context.WithTimeout(r.Context(), manageTimeout)
		defer cancel()
		r = r.WithContext(ctx)
	}
	c := &call{s: s, w: w, r: r, route: rt, param: param, ip: s.clientIP(r), began: s.o.Now()}
	if strings.HasPrefix(rt.path, "/api/") {
		secureHeaders(w.Header())
	}
	err := s.admit(c)
	if err == nil {
		err = rt.handler(c)
	}
	if err != nil {
		c.refuse(err)
	}
	c.logAccess()
}

// admit checks everything that stands before a handler.
func (s *Server) admit(c *call) error {
	if err := s.limitAddress(c); err != nil {
		return err
	}
	if err := s.identify(c); err != nil {
		return err
	}
	if err := s.checkOrigin(c); err != nil {
		return err
	}
	return s.limitUser(c)
}

// refuse answers an error and logs what an operator must know.
func (c *call) refuse(err error) {
	e := asError(err)
	if row := rowOf(e.Code); row.manage >= 500 && c.r.Context().Err() != context.Canceled {
		c.s.o.Logger.Error("management request failed", "route", c.route.method+" "+c.route.path, "request_id", core.RequestID(c.ctx()), "code", string(e.Code), "error", err)
	}
	if c.route.bare {
		c.s.failFormat(c.w, c.r, c.route.formatOr(), e)
		return
	}
	c.fail(e)
}
