package store

import (
	"context"

	"github.com/sluice-gateway/sluice/core"
)

// UpsertNode writes a node's row. SeenAt is the database's clock, so that
// nodes are compared by one clock.
func (s *Store) UpsertNode(ctx context.Context, n *core.Node) error {
	seen := s.main.nowMillis()
	for range 2 {
		found, err := matched(s.main.write.ExecContext(ctx, "UPDATE sluice_nodes SET boot = ?, name = ?, role = ?, version = ?, revision = ?, started_at = ?, seen_at = "+seen+" WHERE id = ?",
			n.Boot, clip(n.Name, 191), string(n.Role), clip(n.Version, 64), int64(n.Revision), millis(n.StartedAt), n.ID))
		if err != nil || found > 0 {
			return s.wrap("upsert node", err)
		}
		_, err = s.main.write.ExecContext(ctx, "INSERT INTO sluice_nodes (id, boot, name, role, version, revision, started_at, seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, "+seen+")",
			n.ID, n.Boot, clip(n.Name, 191), string(n.Role), clip(n.Version, 64), int64(n.Revision), millis(n.StartedAt))
		if !duplicate(err) {
			return s.wrap("upsert node", err)
		}
	}
	return s.wrap("upsert node", errAgain)
}

// nowMillis is the database's clock as an expression, in unix milliseconds.
func (d *database) nowMillis() string {
	if d.mysql != nil {
		return "(UNIX_TIMESTAMP() * 1000)"
	}
	return "(CAST(strftime('%s', 'now') AS INTEGER) * 1000)"
}

// Nodes lists the nodes, by name.
func (s *Store) Nodes(ctx context.Context) ([]*core.Node, error) {
	rows, err := s.main.read.QueryContext(ctx, "SELECT id, boot, name, role, version, revision, started_at, seen_at FROM sluice_nodes ORDER BY name, id LIMIT 1000")
	if err != nil {
		return nil, s.wrap("nodes", err)
	}
	defer func() { _ = rows.Close() }()
	var out []*core.Node
	for rows.Next() {
		n := &core.Node{}
		var started, seen int64
		if err := rows.Scan(&n.ID, &n.Boot, &n.Name, &n.Role, &n.Version, &n.Revision, &started, &seen); err != nil {
			return nil, s.wrap("nodes", err)
		}
		n.StartedAt, n.SeenAt = fromMillis(started), fromMillis(seen)
		out = append(out, n)
	}
	return out, s.wrap("nodes", rows.Err())
}
