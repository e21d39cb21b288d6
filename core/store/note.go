package store

import (
	"context"

	"github.com/sluice-gateway/sluice/core"
)

// What stands in the audit log beside the changes of replicated state.
const (
	OpReveal core.Op   = "reveal" // a secret was shown
	KindLog  core.Kind = "log"    // rows of the usage log
)

// Audit writes one audit row for something that changes no replicated state: a
// key that is shown, logs that are deleted. It is on disk when Audit returns, so
// call it first. detail is JSON and holds no secrets.
func (s *Store) Audit(ctx context.Context, actor core.Actor, kind core.Kind, entity string, op core.Op, detail string) error {
	err := insertRows(ctx, s.main.write, "sluice_audit_logs (created_at, user_id, username, ip, request_id, route, kind, entity_id, op, detail, rev)", [][]any{{
		millis(s.now()), actor.UserID, clip(actor.Username, 191), clip(actor.IP, 64), clip(actor.RequestID, 64), clip(actor.Route, 255),
		string(kind), clip(entity, 191), string(op), detail, 0,
	}})
	return s.wrap("audit", err)
}
