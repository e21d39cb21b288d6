package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

const (
	// maxCount is to where lists of logs count.
	maxCount = 10_000
	// logChunk and logChunkBytes bound one statement of InsertLogs.
	logChunk      = 500
	logChunkBytes = 1 << 20
	// preparedRows is how many rows one statement of SQLite takes.
	preparedRows = 8
	// deleteBatch is how many log rows one statement deletes.
	deleteBatch = 2000
)

const logColumns = `created_at, type, user_id, username, token_id, token_name, channel_id, model, log_group, quota, prompt_tokens, completion_tokens,
 use_time, is_stream, ip, request_id, content, other`

// logTuple has one place for each of logColumns.
var logTuple = "(?" + strings.Repeat(",?", strings.Count(logColumns, ",")) + ")"

// InsertLogs appends rows to the usage log, in as few statements as possible
// and in one transaction: all or none. Texts longer than their columns are cut.
func (s *Store) InsertLogs(ctx context.Context, list []core.UsageLog) error {
	if len(list) == 0 {
		return nil
	}
	parts := splitLogs(list)
	insert := func(db bun.IDB) error {
		for _, part := range parts {
			args := make([]any, 0, len(part)*(strings.Count(logColumns, ",")+1))
			for i := range part {
				args = appendLog(args, &part[i])
			}
			if _, err := db.ExecContext(ctx, "INSERT INTO sluice_usage_logs ("+logColumns+") VALUES "+logTuple+strings.Repeat(","+logTuple, len(part)-1), args...); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case s.logs.mysql == nil:
		return s.wrap("insert logs", s.logs.inTx(ctx, func(tx bun.Tx) error { return insertPrepared(ctx, tx, list) }))
	case len(parts) == 1:
		return s.wrap("insert logs", insert(s.logs.write))
	}
	return s.wrap("insert logs", s.logs.inTx(ctx, func(tx bun.Tx) error { return insert(tx) }))
}

// insertPrepared is for SQLite, where a statement costs no round trip but the
// parsing of a long one costs more than the insert. A statement of some rows finds
// the end of the indexes once. It fails without undoing its own first rows, which
// would have it copy every page that it changes: the transaction is undone.
func insertPrepared(ctx context.Context, tx bun.Tx, list []core.UsageLog) error {
	for _, n := range [...]int{preparedRows, 1} {
		if len(list) < n {
			continue
		}
		var err error
		if list, err = insertBy(ctx, tx, list, n); err != nil {
			return err
		}
	}
	return nil
}

// insertBy inserts rows in groups of n and returns the rest.
func insertBy(ctx context.Context, tx bun.Tx, list []core.UsageLog, n int) ([]core.UsageLog, error) {
	stmt, err := tx.Tx.PrepareContext(ctx, "INSERT OR FAIL INTO sluice_usage_logs ("+logColumns+") VALUES "+logTuple+strings.Repeat(","+logTuple, n-1))
	if err != nil {
		return nil, err
	}
	defer func() { _ = stmt.Close() }()
	// The driver starts a goroutine for each statement that can be cancelled.
	plain := context.WithoutCancel(ctx)
	args := make([]any, 0, n*(strings.Count(logColumns, ",")+1))
	for ; len(list) >= n; list = list[n:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		args = args[:0]
		for i := range list[:n] {
			args = appendLog(args, &list[i])
		}
		if _, err := stmt.ExecContext(plain, args...); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func splitLogs(list []core.UsageLog) [][]core.UsageLog {
	var out [][]core.UsageLog
	start, size := 0, 0
	for i := range list {
		n := 256 + len(list[i].Content) + len(list[i].Other)
		if i > start && (i-start == logChunk || size+n > logChunkBytes) {
			out, start, size = append(out, list[start:i]), i, 0
		}
		size += n
	}
	return append(out, list[start:])
}

func appendLog(args []any, l *core.UsageLog) []any {
	return append(args, millis(l.At), int(l.Type), l.UserID, clip(l.Username, 191), l.TokenID, clip(l.TokenName, 191), l.ChannelID, clip(l.Model, 255), clip(l.Group, 255),
		l.Quota, l.PromptTokens, l.CompletionTokens, l.UseTime.Milliseconds(), l.Stream, clip(l.IP, 64), clip(l.RequestID, 64), clip(l.Content, 16<<10), clip(l.Other, 64<<10))
}

// Logs lists log rows, newest first. Total is counted to 10,000 at most.
func (s *Store) Logs(ctx context.Context, f core.LogFilter, p core.PageQuery) (core.Page[core.UsageLog], error) {
	var page core.Page[core.UsageLog]
	where, args, err := s.logWhere(ctx, f)
	if err != nil {
		return page, s.wrap("logs", err)
	}
	err = s.logs.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM sluice_usage_logs"+where+" LIMIT ?) x", append(args, maxCount)...).Scan(&page.Total)
	if err != nil {
		return page, s.wrap("logs", err)
	}
	rows, err := s.logs.read.QueryContext(ctx, "SELECT id, "+logColumns+" FROM sluice_usage_logs"+where+" ORDER BY id DESC LIMIT ? OFFSET ?",
		append(args, pageLimit(p), pageOffset(p))...)
	if err != nil {
		return page, s.wrap("logs", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var l core.UsageLog
		var at, useTime int64
		if err := rows.Scan(&l.ID, &at, &l.Type, &l.UserID, &l.Username, &l.TokenID, &l.TokenName, &l.ChannelID, &l.Model, &l.Group, &l.Quota, &l.PromptTokens, &l.CompletionTokens,
			&useTime, &l.Stream, &l.IP, &l.RequestID, &l.Content, &l.Other); err != nil {
			return page, s.wrap("logs", err)
		}
		l.At, l.UseTime = fromMillis(at), time.Duration(useTime)*time.Millisecond
		page.Items = append(page.Items, l)
	}
	return page, s.wrap("logs", rows.Err())
}

// logWhere is the WHERE of a filter, with its values. A user's name is looked
// up first, since the log has an index by id only.
func (s *Store) logWhere(ctx context.Context, f core.LogFilter) (string, []any, error) {
	var conds []string
	var args []any
	add := func(cond string, v any) { conds, args = append(conds, cond), append(args, v) }
	if f.Username != "" {
		if f.UserID == 0 {
			err := s.main.read.QueryRowContext(ctx, "SELECT id FROM sluice_users WHERE username = ?", f.Username).Scan(&f.UserID)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return "", nil, err
			}
		}
		add("username = ?", f.Username)
	}
	for _, c := range []struct {
		on   bool
		cond string
		v    any
	}{
		{f.UserID != 0, "user_id = ?", f.UserID}, {f.TokenID != 0, "token_id = ?", f.TokenID}, {f.ChannelID != 0, "channel_id = ?", f.ChannelID},
		{f.Type != 0, "type = ?", int(f.Type)}, {f.TokenName != "", "token_name = ?", f.TokenName}, {f.Model != "", "model = ?", f.Model},
		{f.Group != "", "log_group = ?", f.Group}, {f.RequestID != "", "request_id = ?", f.RequestID},
		{!f.From.IsZero(), "created_at >= ?", millis(f.From)}, {!f.To.IsZero(), "created_at <= ?", millis(f.To)},
	} {
		if c.on {
			add(c.cond, c.v)
		}
	}
	if len(conds) == 0 {
		return "", nil, nil
	}
	return " WHERE " + strings.Join(conds, " AND "), args, nil
}

// LogStat sums the quota of the rows that f selects (of consumption, unless f
// names another type), and counts requests and tokens of the last 60 seconds.
func (s *Store) LogStat(ctx context.Context, f core.LogFilter) (core.LogStat, error) {
	var st core.LogStat
	if f.Type == 0 {
		f.Type = core.LogConsume
	}
	where, args, err := s.logWhere(ctx, f)
	if err != nil {
		return st, s.wrap("log stat", err)
	}
	err = s.logs.read.QueryRowContext(ctx, "SELECT CAST(COALESCE(SUM(quota), 0) AS "+s.logs.bigint()+") FROM sluice_usage_logs"+where, args...).Scan(&st.Quota)
	if err != nil {
		return st, s.wrap("log stat", err)
	}
	f.From, f.To = s.now().Add(-time.Minute), time.Time{}
	if where, args, err = s.logWhere(ctx, f); err != nil {
		return st, s.wrap("log stat", err)
	}
	err = s.logs.read.QueryRowContext(ctx, "SELECT COUNT(*), CAST(COALESCE(SUM(prompt_tokens + completion_tokens), 0) AS "+s.logs.bigint()+") FROM sluice_usage_logs"+where, args...).Scan(&st.RPM, &st.TPM)
	return st, s.wrap("log stat", err)
}

// bigint is the name of 64 bit integers in a CAST.
func (d *database) bigint() string {
	if d.mysql != nil {
		return "SIGNED"
	}
	return "INTEGER"
}

// DeleteLogs deletes the rows of before a time, in batches that do not hold up
// the writer, and returns how many. It may be called again after an error.
func (s *Store) DeleteLogs(ctx context.Context, before time.Time) (int64, error) {
	return s.deleteOld(ctx, s.logs, "delete logs", "SELECT id FROM sluice_usage_logs WHERE created_at < ? ORDER BY created_at, id LIMIT ?",
		"DELETE FROM sluice_usage_logs WHERE id IN (?)", millis(before))
}

func (s *Store) deleteOld(ctx context.Context, d *database, op, find, del string, before int64) (int64, error) {
	var total int64
	for {
		ids, err := keysOf(ctx, d.write, find, before, deleteBatch)
		if err != nil || len(ids) == 0 {
			return total, s.wrap(op, err)
		}
		n, err := matched(d.write.ExecContext(ctx, del, bun.List(ids)))
		if err != nil {
			return total, s.wrap(op, err)
		}
		total += n
		if len(ids) < deleteBatch {
			return total, nil
		}
	}
}

// keysOf reads one column of texts or numbers.
func keysOf(ctx context.Context, db bun.IDB, query string, args ...any) ([]string, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var k string
		if err := rows.Scan(&k); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, rows.Err()
}
