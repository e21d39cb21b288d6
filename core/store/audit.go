package store

import (
	"context"

	"github.com/sluice-gateway/sluice/core"
)

// Audits lists administrative changes, newest first. Total is counted to
// maxCount at most.
func (s *Store) Audits(ctx context.Context, p core.PageQuery) (core.Page[core.Audit], error) {
	var page core.Page[core.Audit]
	err := s.main.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM sluice_audit_logs LIMIT ?) x", maxCount).Scan(&page.Total)
	if err != nil {
		return page, s.wrap("audits", err)
	}
	rows, err := s.main.read.QueryContext(ctx, `SELECT id, created_at, user_id, username, ip, request_id, route, kind, entity_id, op, detail, rev
 FROM sluice_audit_logs ORDER BY id DESC LIMIT ? OFFSET ?`, pageLimit(p), pageOffset(p))
	if err != nil {
		return page, s.wrap("audits", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var a core.Audit
		var at int64
		if err := rows.Scan(&a.ID, &at, &a.Actor.UserID, &a.Actor.Username, &a.Actor.IP, &a.Actor.RequestID, &a.Actor.Route, &a.Kind, &a.Entity, &a.Op, &a.Detail, &a.Rev); err != nil {
			return page, s.wrap("audits", err)
		}
		a.At = fromMillis(at)
		page.Items = append(page.Items, a)
	}
	return page, s.wrap("audits", rows.Err())
}
