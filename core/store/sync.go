package store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// MaxChanges is how many lines of the change log one FetchSince returns.
const MaxChanges = 1000

// Revision reads the epoch and the last revision.
func (s *Store) Revision(ctx context.Context) (epoch string, rev core.Revision, err error) {
	epoch, rev, err = readRevision(ctx, s.main.read)
	return epoch, rev, s.wrap("revision", err)
}

func readRevision(ctx context.Context, db bun.IDB) (epoch string, rev core.Revision, err error) {
	err = db.QueryRowContext(ctx, "SELECT epoch, rev FROM sluice_sync_rev WHERE id = 1").Scan(&epoch, &rev)
	if err != nil {
		err = fmt.Errorf("read revision: %w", err)
	}
	return epoch, rev, err
}

// FetchAll reads the whole routing state in one consistent read.
func (s *Store) FetchAll(ctx context.Context) (FetchResult, error) {
	var out FetchResult
	err := s.main.inSnapshot(ctx, func(tx bun.Tx) error {
		var err error
		if out.Epoch, out.Rev, err = readRevision(ctx, tx); err != nil { // first: it fixes the state that is read
			return err
		}
		return s.readRows(ctx, tx, &out, nil)
	})
	return out, s.wrap("fetch all", err)
}

// FetchSince reads the change log after rev, at most MaxChanges lines of it,
// and the rows that it touches, in one consistent read. The caller judges
// whether Changes are contiguous up to Rev: if they are not, or if the epoch is
// another one or Rev went back, it must fetch all.
func (s *Store) FetchSince(ctx context.Context, rev core.Revision) (FetchResult, error) {
	var out FetchResult
	err := s.main.inSnapshot(ctx, func(tx bun.Tx) error {
		var err error
		if out.Epoch, out.Rev, err = readRevision(ctx, tx); err != nil {
			return err
		}
		if out.Rev > rev {
			if out.Changes, err = readChanges(ctx, tx, rev); err != nil {
				return err
			}
		}
		return s.readRows(ctx, tx, &out, touched(out.Changes))
	})
	return out, s.wrap("fetch since", err)
}

func readChanges(ctx context.Context, tx bun.Tx, rev core.Revision) ([]core.Change, error) {
	rows, err := tx.QueryContext(ctx, "SELECT rev, kind, entity_id, op FROM sluice_sync_log WHERE rev > ? ORDER BY rev LIMIT ?", int64(rev), MaxChanges)
	if err != nil {
		return nil, fmt.Errorf("read change log: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []core.Change
	for rows.Next() {
		var c core.Change
		if err := rows.Scan(&c.Rev, &c.Kind, &c.ID, &c.Op); err != nil {
			return nil, fmt.Errorf("read change log: %w", err)
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// touched lists the ids of changes by kind; ids that cannot be of a row are
// left out.
func touched(changes []core.Change) map[core.Kind][]any {
	out := map[core.Kind][]any{}
	for _, c := range changes {
		switch c.Kind {
		case core.KindChannel:
			if id, err := strconv.ParseInt(c.ID, 10, 64); err == nil {
				out[c.Kind] = append(out[c.Kind], id)
			}
		case core.KindGroup, core.KindPrice, core.KindOption:
			out[c.Kind] = append(out[c.Kind], c.ID)
		}
	}
	return out
}

// readRows reads the rows of the routing state: all, or those in only. A row
// that cannot be used is reported and left out.
func (s *Store) readRows(ctx context.Context, tx bun.Tx, out *FetchResult, only map[core.Kind][]any) error {
	rows := core.Rows{Channels: map[int64]*core.Channel{}, Groups: map[string]*core.Group{}, Prices: map[string]*core.Price{}, Options: map[string]string{}}
	out.Rows, out.Bad = rows, nil
	bad := func(kind core.Kind, id string, err error) { out.Bad = append(out.Bad, BadRow{kind, id, err}) }
	var channels []*channelRow
	if err := selectRows(ctx, tx, &channels, core.KindChannel, "id", only); err != nil {
		return err
	}
	for _, r := range channels {
		if c, err := s.channel(r, true); err != nil {
			bad(core.KindChannel, strconv.FormatInt(r.ID, 10), err)
		} else {
			rows.Channels[c.ID] = c
		}
	}
	var groups []*groupRow
	if err := selectRows(ctx, tx, &groups, core.KindGroup, "name", only); err != nil {
		return err
	}
	for _, r := range groups {
		if g, err := r.group(); err != nil {
			bad(core.KindGroup, r.Name, err)
		} else {
			rows.Groups[g.Name] = g
		}
	}
	var prices []*priceRow
	if err := selectRows(ctx, tx, &prices, core.KindPrice, "model", only); err != nil {
		return err
	}
	for _, r := range prices {
		rows.Prices[r.Model] = r.price()
	}
	var options []*optionRow
	if err := selectRows(ctx, tx, &options, core.KindOption, "name", only); err != nil {
		return err
	}
	for _, r := range options {
		if v, err := s.optionValue(r); err != nil {
			bad(core.KindOption, r.Name, err)
		} else {
			rows.Options[r.Name] = v
		}
	}
	return nil
}

func selectRows[T any](ctx context.Context, tx bun.Tx, out *[]*T, kind core.Kind, key string, only map[core.Kind][]any) error {
	q := tx.NewSelect().Model(out)
	if only != nil {
		if len(only[kind]) == 0 {
			return nil
		}
		q = q.Where(key+" IN (?)", bun.List(only[kind]))
	}
	if err := q.Scan(ctx); err != nil {
		return fmt.Errorf("read %ss: %w", kind, err)
	}
	return nil
}
