package web

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

func (s *Server) selftestRoutes() []route {
	return []route{
		{method: "GET", path: "/api/status/test", caller: callAdmin, handler: s.selftest},
	}
}

// selftestTimeout is how long the database may take.
const selftestTimeout = 3 * time.Second

type selftestView struct {
	Success   bool          `json:"success"`
	Message   string        `json:"message"`
	HTTPStats selftestStats `json:"http_stats"`
}

type selftestStats struct {
	Revision      core.Revision `json:"revision"`
	UptimeSeconds int64         `json:"uptime_seconds"`
}

// selftest asks the database, which /api/status never does.
func (s *Server) selftest(c *call) error {
	ctx, cancel := context.WithTimeout(c.ctx(), selftestTimeout)
	defer cancel()
	v := selftestView{Success: true, Message: "the database answers",
		HTTPStats: selftestStats{Revision: s.snapshot().Revision, UptimeSeconds: int64(s.o.Now().Sub(s.started) / time.Second)}}
	if err := s.o.Store.Ping(ctx); err != nil {
		e := asError(err)
		s.o.Logger.Warn("database does not answer", "request_id", core.RequestID(c.ctx()), "error", err)
		v.Success, v.Message = false, strings.TrimSpace("the database does not answer: "+e.Message)
		return c.json(http.StatusServiceUnavailable, v)
	}
	return c.json(http.StatusOK, v)
}
