package store

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// Tx is a write of replicated state under way. Its methods change rows and
// note what they changed; Update gives the changes their revisions. Not safe
// for concurrent use, and dead when Update's function has returned.
type Tx struct {
	s       *Store
	db      bun.Tx
	changes []*change
}

// change is what happened to one entity in a transaction, however often.
type change struct {
	kind   core.Kind
	id     string
	op     core.Op
	fields []string       // names of columns, for the audit log
	extra  map[string]any // figures for the audit log; never secrets
}

// Update runs fn in one transaction and gives every changed entity a revision:
// as the last statements the row-locked revision is raised, so that the order
// of revisions is the order of commits, and change log, audit log and the rows
// are marked with it. After a deadlock or a lock time-out everything runs again:
// fn must have no effect but through tx, and must set anew what it reads.
//
// It returns the revision of the last change; without any change, the present
// one. CodeStoreUnavailable may mean that the commit happened unseen.
func (s *Store) Update(ctx context.Context, actor core.Actor, fn func(tx *Tx) error) (core.Revision, error) {
	var rev core.Revision
	var changed bool
	err := s.main.inTx(ctx, func(db bun.Tx) error {
		tx := &Tx{s: s, db: db}
		if err := fn(tx); err != nil {
			return err
		}
		var err error
		changed = len(tx.changes) > 0
		rev, err = tx.finish(ctx, actor)
		return err
	})
	if err != nil {
		return 0, s.wrap("update", err)
	}
	if changed {
		s.committed(ctx, rev)
	}
	return rev, nil
}

// note records a change of an entity; a second one to the same is merged.
func (tx *Tx) note(kind core.Kind, id string, op core.Op, fields ...string) *change {
	for _, c := range tx.changes {
		if c.kind == kind && c.id == id {
			c.op = op
			for _, f := range fields {
				if !slices.Contains(c.fields, f) {
					c.fields = append(c.fields, f)
				}
			}
			return c
		}
	}
	c := &change{kind: kind, id: id, op: op, fields: fields}
	tx.changes = append(tx.changes, c)
	return c
}

func (tx *Tx) noteID(kind core.Kind, id int64, op core.Op, fields ...string) *change {
	return tx.note(kind, strconv.FormatInt(id, 10), op, fields...)
}

func (c *change) with(name string, value any) {
	if c.extra == nil {
		c.extra = map[string]any{}
	}
	c.extra[name] = value
}

func (c *change) detail() string {
	d := map[string]any{}
	for k, v := range c.extra {
		d[k] = v
	}
	if len(c.fields) > 0 {
		slices.Sort(c.fields)
		d["fields"] = c.fields
	}
	b, err := json.Marshal(d)
	if err != nil {
		return "{}"
	}
	return string(b)
}

func (tx *Tx) finish(ctx context.Context, actor core.Actor) (core.Revision, error) {
	n := int64(len(tx.changes))
	if n == 0 {
		_, rev, err := readRevision(ctx, tx.db)
		return rev, err
	}
	if err := mustMatch(tx.db.ExecContext(ctx, "UPDATE sluice_sync_rev SET rev = rev + ? WHERE id = 1", n)); err != nil {
		return 0, fmt.Errorf("raise revision: %w", err)
	}
	_, last, err := readRevision(ctx, tx.db)
	if err != nil {
		return 0, err
	}
	first := int64(last) - n + 1
	if err := tx.mark(ctx, first); err != nil {
		return 0, err
	}
	return last, tx.log(ctx, first, actor)
}

// mustMatch turns "no row matched" into an error.
func mustMatch(res interface{ RowsAffected() (int64, error) }, err error) error {
	n, err := matched(res, err)
	if err == nil && n == 0 {
		return fmt.Errorf("no such row")
	}
	return err
}

// matched is the number of rows that a statement's WHERE found; the MySQL
// connections are opened so that unchanged rows count as well.
func matched(res interface{ RowsAffected() (int64, error) }, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// chunk is how many rows one statement of a bulk write has.
const chunk = 200

// revTable is where a kind of entity has its revision.
type revTable struct {
	table, key string
	numeric    bool
}

func tableOf(kind core.Kind) (revTable, bool) {
	switch kind {
	case core.KindChannel:
		return revTable{"sluice_channels", "id", true}, true
	case core.KindToken:
		return revTable{"sluice_tokens", "id", true}, true
	case core.KindUser:
		return revTable{"sluice_users", "id", true}, true
	case core.KindGroup:
		return revTable{"sluice_groups", "name", false}, true
	case core.KindOption:
		return revTable{"sluice_options", "name", false}, true
	case core.KindPrice:
		return revTable{"sluice_prices", "model", false}, true
	}
	return revTable{}, false
}

// mark writes each living row's revision, a kind at a time.
func (tx *Tx) mark(ctx context.Context, first int64) error {
	type mark struct {
		key any
		rev int64
	}
	byTable := map[revTable][]mark{}
	var order []revTable
	for i, c := range tx.changes {
		t, ok := tableOf(c.kind)
		if !ok || c.op == core.OpDelete {
			continue
		}
		var key any = c.id
		if t.numeric {
			n, err := strconv.ParseInt(c.id, 10, 64)
			if err != nil {
				return fmt.Errorf("id of changed %s: %w", c.kind, err)
			}
			key = n
		}
		if byTable[t] == nil {
			order = append(order, t)
		}
		byTable[t] = append(byTable[t], mark{key, first + int64(i)})
	}
	for _, t := range order {
		for part := range slices.Chunk(byTable[t], chunk) {
			keys := make([]any, len(part))
			args := make([]any, 0, 2*len(part)+1)
			for i, m := range part {
				keys[i] = m.key
				args = append(args, m.key, m.rev)
			}
			q := "UPDATE " + t.table + " SET rev = CASE " + t.key + strings.Repeat(" WHEN ? THEN ?", len(part)) + " ELSE rev END WHERE " + t.key + " IN (?)"
			if _, err := tx.db.ExecContext(ctx, q, append(args, bun.List(keys))...); err != nil {
				return fmt.Errorf("mark revision in %s: %w", t.table, err)
			}
		}
	}
	return nil
}

func (tx *Tx) log(ctx context.Context, first int64, actor core.Actor) error {
	now := millis(tx.s.now())
	user, ip, request, route := clip(actor.Username, 191), clip(actor.IP, 64), clip(actor.RequestID, 64), clip(actor.Route, 255)
	logs := make([][]any, len(tx.changes))
	audits := make([][]any, len(tx.changes))
	for i, c := range tx.changes {
		rev := first + int64(i)
		logs[i] = []any{rev, string(c.kind), c.id, string(c.op), now, user}
		audits[i] = []any{now, actor.UserID, user, ip, request, route, string(c.kind), c.id, string(c.op), c.detail(), rev}
	}
	if err := insertRows(ctx, tx.db, "sluice_sync_log (rev, kind, entity_id, op, created_at, actor)", logs); err != nil {
		return fmt.Errorf("append to change log: %w", err)
	}
	if err := insertRows(ctx, tx.db, "sluice_audit_logs (created_at, user_id, username, ip, request_id, route, kind, entity_id, op, detail, rev)", audits); err != nil {
		return fmt.Errorf("append to audit log: %w", err)
	}
	return nil
}

// insertRows writes many rows in few statements.
func insertRows(ctx context.Context, db bun.IDB, into string, rows [][]any) error {
	for part := range slices.Chunk(rows, chunk) {
		if err := insertChunk(ctx, db, into, part); err != nil {
			return err
		}
	}
	return nil
}

func insertChunk(ctx context.Context, db bun.IDB, into string, rows [][]any) error {
	width := len(rows[0])
	tuple := "(?" + strings.Repeat(",?", width-1) + ")"
	args := make([]any, 0, len(rows)*width)
	for _, r := range rows {
		args = append(args, r...)
	}
	_, err := db.ExecContext(ctx, "INSERT INTO "+into+" VALUES "+tuple+strings.Repeat(","+tuple, len(rows)-1), args...)
	return err
}

// ledgerColumns are never written by management and say nothing of a change.
var ledgerColumns = map[string]bool{"id": true, "rev": true, "quota": true, "used_quota": true, "request_count": true, "remain_quota": true,
	"accessed_at": true, "created_at": true, "last_login_at": true, "balance": true, "balance_at": true, "response_time": true, "tested_at": true}

// changedColumns names the columns in which two row structs differ, without
// those that are not management's.
func changedColumns(before, after any) []string {
	a, b := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	var out []string
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if f.Anonymous {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("bun"), ",")
		if !ledgerColumns[name] && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, name)
		}
	}
	return out
}

// save writes the columns of a row that changed and notes the change. It
// reports whether there was one.
func (tx *Tx) save(ctx context.Context, kind core.Kind, id string, before, after any) (bool, error) {
	cols := changedColumns(before, after)
	if len(cols) == 0 {
		return false, nil
	}
	if _, err := tx.db.NewUpdate().Model(after).Column(cols...).WherePK().Exec(ctx); err != nil {
		return false, err
	}
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = strings.TrimSuffix(c, "_sealed")
	}
	tx.note(kind, id, core.OpPut, names...)
	return true, nil
}

// lock reads one row and keeps others from changing it until the end of the
// transaction.
func (tx *Tx) lock(ctx context.Context, row any, what, where string, args ...any) error {
	q := tx.db.NewSelect().Model(row).Where(where, args...)
	if tx.s.main.mysql != nil {
		q = q.For("UPDATE")
	}
	return missing(q.Limit(1).Scan(ctx), what)
}
