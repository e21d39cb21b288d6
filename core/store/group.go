package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// groupRow is a row of sluice_groups.
type groupRow struct {
	bun.BaseModel `bun:"table:sluice_groups,alias:g"`
	Name          string `bun:"name,pk"`
	Ratio         int64  `bun:"ratio"`
	HasRatio      bool   `bun:"has_ratio"`
	Usable        bool   `bun:"usable"`
	Description   string `bun:"description"`
	Ratios        string `bun:"ratios"` // JSON object
	Rev           int64  `bun:"rev"`
}

func (r *groupRow) group() (*core.Group, error) {
	g := &core.Group{Name: r.Name, Ratio: core.Ratio(r.Ratio), HasRatio: r.HasRatio, Usable: r.Usable, Description: r.Description, Rev: core.Revision(r.Rev)}
	if r.Ratios != "" {
		if err := json.Unmarshal([]byte(r.Ratios), &g.Ratios); err != nil {
			return nil, fmt.Errorf("ratios of group %q: %w", r.Name, err)
		}
	}
	return g, nil
}

// PutGroup inserts or replaces a group.
func (tx *Tx) PutGroup(ctx context.Context, g *core.Group) error {
	if err := checkIdentity("group", g.Name, 255); err != nil {
		return err
	}
	if err := checkText("description", g.Description, 1024); err != nil {
		return err
	}
	row := &groupRow{Name: g.Name, Ratio: int64(g.Ratio), HasRatio: g.HasRatio, Usable: g.Usable, Description: g.Description}
	if len(g.Ratios) > 0 {
		b, err := json.Marshal(g.Ratios) // maps are sorted
		if err != nil {
			return fmt.Errorf("encode ratios: %w", err)
		}
		row.Ratios = string(b)
	}
	return put(ctx, tx, core.KindGroup, g.Name, new(groupRow), row, "name = ?")
}

// put inserts a row, or saves what changed of it.
func put[T any](ctx context.Context, tx *Tx, kind core.Kind, id string, before, after *T, where string) error {
	err := tx.lock(ctx, before, string(kind), where, id)
	if err == nil {
		_, err = tx.save(ctx, kind, id, before, after)
		return err
	}
	if !core.IsCode(err, core.CodeNotFound) {
		return err
	}
	if _, err := tx.db.NewInsert().Model(after).Exec(ctx); err != nil {
		if duplicate(err) {
			return errAgain
		}
		return err
	}
	tx.note(kind, id, core.OpPut).with("created", true)
	return nil
}

// DeleteGroup removes a group.
func (tx *Tx) DeleteGroup(ctx context.Context, name string) error {
	return tx.deleteNamed(ctx, core.KindGroup, "DELETE FROM sluice_groups WHERE name = ?", name)
}

func (tx *Tx) deleteNamed(ctx context.Context, kind core.Kind, query, name string) error {
	if checkIdentity("name", name, 255) != nil { // MySQL would find a name with blanks after it
		return notFound(string(kind))
	}
	n, err := matched(tx.db.ExecContext(ctx, query, name))
	if err != nil {
		return err
	}
	if n == 0 {
		return notFound(string(kind))
	}
	tx.note(kind, name, core.OpDelete)
	return nil
}
