package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/uptrace/bun"
)

// queryHook logs slow statements. The text of a built query has its values in
// it, so of those only operation and table are named; raw statements are named
// by their template, which never holds a value.
type queryHook struct {
	logger *slog.Logger
	slow   time.Duration
}

var _ bun.QueryHook = queryHook{}

func withHook(db *bun.DB, o Options) *bun.DB {
	if o.SlowThreshold <= 0 {
		return db
	}
	return db.WithQueryHook(queryHook{logger: o.Logger, slow: o.SlowThreshold})
}

// BeforeQuery implements bun.QueryHook.
func (h queryHook) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

// AfterQuery implements bun.QueryHook.
func (h queryHook) AfterQuery(ctx context.Context, e *bun.QueryEvent) {
	took := time.Since(e.StartTime)
	if took < h.slow {
		return
	}
	what := ""
	if e.IQuery != nil {
		what = e.IQuery.Operation() + " " + e.IQuery.GetTableName()
	} else if what = e.QueryTemplate; len(what) > 200 {
		what = what[:200]
	}
	h.logger.WarnContext(ctx, "slow statement", slog.String("statement", what), slog.Duration("took", took), slog.Bool("ok", e.Err == nil))
}
