package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

func (s *Server) healthRoutes() []route {
	probe := func(path string, h func(c *call) error) route {
		return route{method: "GET", path: path, caller: callAnyone, limit: limitNone, head: true, handler: h}
	}
	return []route{
		probe("/livez", s.livez),
		probe("/readyz", s.readyz),
		probe("/healthz", s.readyz),
		{method: "GET", path: "/metrics", caller: callAnyone, limit: limitNone, slow: true, handler: s.metrics},
	}
}

// livez answers as long as the process can.
func (s *Server) livez(c *call) error {
	return c.json(http.StatusOK, map[string]string{"status": "ok"})
}

// readyTimeout bounds the checks, so that a prober gets the answer before it
// gives up.
const readyTimeout = 2 * time.Second

// readyz tells a load balancer whether to send traffic here. ?verbose names
// what was looked at.
func (s *Server) readyz(c *call) error {
	ctx, cancel := context.WithTimeout(c.ctx(), readyTimeout)
	defer cancel()
	status, word := http.StatusOK, "ok"
	type line struct {
		Name     string `json:"name"`
		OK       bool   `json:"ok"`
		Required bool   `json:"required"`
		Detail   string `json:"detail,omitempty"`
	}
	body := struct {
		Status string `json:"status"`
		Checks []line `json:"checks,omitempty"`
	}{}
	verbose := c.r.URL.Query().Has("verbose")
	for _, check := range s.o.Ready(ctx) {
		if !check.OK && check.Required {
			status, word = http.StatusServiceUnavailable, "unavailable"
		}
		if verbose {
			body.Checks = append(body.Checks, line(struct {
				Name     string
				OK       bool
				Required bool
				Detail   string
			}(check)))
		}
	}
	body.Status = word
	if status != http.StatusOK {
		c.w.Header().Set("Retry-After", "1")
	}
	c.w.Header().Set("Cache-Control", "no-store")
	return c.json(status, body)
}

// metrics answers on the main listener only to who has the token: behind a
// proxy on the same host, every client looks local.
func (s *Server) metrics(c *call) error {
	token := s.o.Config().Metrics.Token.Reveal()
	if token == "" || s.o.MetricsHandler == nil {
		s.refusePath(c.w, c.r, core.Errorf(core.CodeInvalidURL, "Invalid URL (%s %s)", c.r.Method, c.r.URL.Path))
		return nil
	}
	guesses := []failKey{{blockedPrefix + "metrics@" + addressKey(c.ip), failPair}}
	if err := s.login.blocked(guesses); err != nil {
		return err
	}
	if given := bearerOf(c.r); !sameText(given, token) {
		if given != "" {
			s.login.failed(c.ctx(), guesses)
		}
		c.w.Header().Set("WWW-Authenticate", "Bearer")
		return core.Errorf(core.CodeUnauthorized, "the metrics token is needed")
	}
	s.o.MetricsHandler.ServeHTTP(c.w, c.r)
	return nil
}

// sameText compares in a time that tells nothing, not even the length.
func sameText(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
