package web

import (
	"github.com/sluice-gateway/sluice/core"
)

func (s *Server) auditRoutes() []route {
	return []route{
		{method: "GET", path: "/api/audit/", caller: callRoot, handler: s.listAudits},
	}
}

// auditView is one administrative change: who, from where, what, at which revision.
type auditView struct {
	ID        int64         `json:"id"`
	CreatedAt int64         `json:"created_at"`
	UserID    int64         `json:"user_id"` // 0 = the system itself
	Username  string        `json:"username"`
	IP        string        `json:"ip"`
	RequestID string        `json:"request_id"`
	Route     string        `json:"route"`
	Kind      core.Kind     `json:"kind"`
	Entity    string        `json:"entity"`
	Op        core.Op       `json:"op"`
	Detail    string        `json:"detail"` // JSON text
	Revision  core.Revision `json:"revision"`
}

func (s *Server) listAudits(c *call) error {
	q := c.pageQuery()
	page, err := s.o.Store.Audits(c.ctx(), q)
	if err != nil {
		return err
	}
	return replyPage(c, q, page, func(a core.Audit) auditView {
		return auditView{
			ID: a.ID, CreatedAt: unixSeconds(a.At, 0), UserID: a.Actor.UserID, Username: a.Actor.Username, IP: a.Actor.IP,
			RequestID: a.Actor.RequestID, Route: a.Actor.Route, Kind: a.Kind, Entity: a.Entity, Op: a.Op, Detail: a.Detail, Revision: a.Rev,
		}
	})
}
