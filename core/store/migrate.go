package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// lockSeconds is how long the migration lock holds without being renewed, in
// the clock of the database.
const lockSeconds = 60

// part is the migrations of one purpose; they are numbered apart, since the log
// tables may move to a database of their own.
type part struct {
	name  string
	db    *database
	steps []migration
}

func (s *Store) parts() []part {
	return []part{{"main", s.main, mainMigrations}, {"log", s.logs, logMigrations}}
}

// Migrate brings both databases to this version's tables. It may be called by
// several nodes at once and after a crash at any point: a row with an expiry in
// the database's clock lets one at a time work, each step is one statement that
// is left out when its effect is there, and is recorded after.
func (s *Store) Migrate(ctx context.Context) error {
	for _, p := range s.parts() {
		if err := s.migrate(ctx, p); err != nil {
			return s.wrap("migrate "+p.name, err)
		}
	}
	return nil
}

func (s *Store) migrate(ctx context.Context, p part) error {
	db, err := p.db.patient()
	if err != nil {
		return err
	}
	if db != p.db.write {
		defer func() { _ = db.Close() }()
	}
	for _, m := range bookkeeping {
		if err := p.db.apply(ctx, db, m); err != nil {
			return err
		}
	}
	n, err := s.pending(ctx, p)
	if err != nil || n == 0 {
		return err
	}
	ctx, release, err := s.lockMigrations(ctx, p.db)
	if err != nil {
		return err
	}
	defer release()
	return s.runSteps(ctx, db, p)
}

// patient is a handle without read time-out: a step may take long on a
// large table. On SQLite it is the writer.
func (d *database) patient() (*bun.DB, error) {
	if d.mysql == nil {
		return d.write, nil
	}
	cfg := d.mysql.Clone()
	cfg.ReadTimeout = 0
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("DSN: %w", err)
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(1)
	return bun.NewDB(pool, d.write.Dialect()), nil
}

func (s *Store) runSteps(ctx context.Context, db *bun.DB, p part) error {
	recorded, err := p.db.recorded(ctx, p.name)
	if err != nil {
		return err
	}
	for _, m := range p.steps {
		if recorded[m.num] {
			continue
		}
		if err := p.db.apply(ctx, db, m); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, "INSERT INTO sluice_migrations (part, num, name, applied_at) VALUES (?, ?, ?, ?)", p.name, m.num, m.name, millis(s.now()))
		if err != nil && !duplicate(err) {
			return fmt.Errorf("record migration %d: %w", m.num, err)
		}
		s.logger.DebugContext(ctx, "migration applied", "database", p.name, "step", m.num, "name", m.name)
	}
	s.logger.InfoContext(ctx, "database migrated", "database", p.name, "steps", len(p.steps)-len(recorded))
	return nil
}

// apply runs a step unless its effect is there.
func (d *database) apply(ctx context.Context, db *bun.DB, m migration) error {
	there, err := d.has(ctx, db, m.done)
	if err == nil && !there {
		_, err = db.ExecContext(ctx, m.statement(d.mysql != nil))
		if err != nil { // another node may have been faster
			if now, e := d.has(ctx, db, m.done); e == nil && now {
				err = nil
			}
		}
	}
	if err != nil {
		return fmt.Errorf("step %d (%s): %w", m.num, m.name, err)
	}
	return nil
}

// has looks into the catalogue.
func (d *database) has(ctx context.Context, db bun.IDB, l look) (bool, error) {
	var q string
	args := []any{l.table}
	switch {
	case l.row != "":
		q, args = "SELECT COUNT(*) FROM "+l.table+" WHERE "+l.row, nil
	case d.mysql != nil && l.index != "":
		q, args = "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? AND index_name = ?", append(args, l.index)
	case d.mysql != nil:
		q = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
	case l.index != "":
		q, args = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND name = ?", append(args, l.index)
	default:
		q = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
	}
	var n int
	err := db.QueryRowContext(ctx, q, args...).Scan(&n)
	return n > 0, err
}

func (d *database) recorded(ctx context.Context, name string) (map[int]bool, error) {
	there, err := d.has(ctx, d.write, look{table: "sluice_migrations"})
	if err != nil || !there {
		return nil, err
	}
	rows, err := d.write.QueryContext(ctx, "SELECT num FROM sluice_migrations WHERE part = ?", name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := map[int]bool{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out[n] = true
	}
	return out, rows.Err()
}

// Pending counts the steps of this version that were not applied yet.
func (s *Store) Pending(ctx context.Context) (int, error) {
	total := 0
	for _, p := range s.parts() {
		n, err := s.pending(ctx, p)
		if err != nil {
			return 0, s.wrap("pending migrations", err)
		}
		total += n
	}
	return total, nil
}

func (s *Store) pending(ctx context.Context, p part) (int, error) {
	recorded, err := p.db.recorded(ctx, p.name)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, m := range p.steps {
		if !recorded[m.num] {
			n++
		}
	}
	return n, nil
}

// nowSeconds is the database's clock as an expression, in unix seconds.
func (d *database) nowSeconds() string {
	if d.mysql != nil {
		return "UNIX_TIMESTAMP()"
	}
	return "CAST(strftime('%s', 'now') AS INTEGER)"
}

// lockMigrations waits for the lock. The returned context ends when the lock
// is lost; release gives it back.
func (s *Store) lockMigrations(ctx context.Context, d *database) (context.Context, func(), error) {
	holder := randomText(32)
	take := "UPDATE sluice_migration_lock SET holder = ?, expires_at = " + d.nowSeconds() + " + ? WHERE id = 1 AND (holder = ? OR holder = '' OR expires_at <= " + d.nowSeconds() + ")"
	for {
		n, err := matched(d.write.ExecContext(ctx, take, holder, lockSeconds, holder))
		if err != nil && !retryable(err) {
			return nil, nil, err
		}
		if err == nil && n > 0 {
			break
		}
		if err := pause(ctx, 8); err != nil {
			return nil, nil, fmt.Errorf("wait for the migration lock, which another node holds: %w", err)
		}
	}
	held, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.renewLock(held, cancel, d, holder)
	}()
	return held, func() {
		cancel(nil)
		<-stopped
		ctx, end := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
		defer end()
		if _, err := d.write.ExecContext(ctx, "UPDATE sluice_migration_lock SET holder = '', expires_at = 0 WHERE id = 1 AND holder = ?", holder); err != nil {
			s.logger.WarnContext(ctx, "migration lock not given back; it runs out by itself", "error", err)
		}
	}, nil
}

func (s *Store) renewLock(ctx context.Context, cancel context.CancelCauseFunc, d *database, holder string) {
	t := time.NewTicker(lockSeconds * time.Second / 4)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		n, err := matched(d.write.ExecContext(ctx, "UPDATE sluice_migration_lock SET expires_at = "+d.nowSeconds()+" + ? WHERE id = 1 AND holder = ?", lockSeconds, holder))
		if err == nil && n == 0 {
			cancel(errors.New("migration lock was lost"))
			return
		}
	}
}

// canaryText is what is sealed to tell whether secrets fit.
const canaryText = "sluice canary"

// CheckCanary makes sure that this keyring opens what is sealed in the database:
// there is one sealed row for every secret that was ever used, and each must
// open. The current secret's own row is added when all others do.
func (s *Store) CheckCanary(ctx context.Context) error {
	err := s.main.inTx(ctx, func(tx bun.Tx) error {
		// Nodes that start at once are put in order by the revision row.
		if err := mustMatch(tx.ExecContext(ctx, "UPDATE sluice_sync_rev SET rev = rev + 0 WHERE id = 1")); err != nil {
			return err
		}
		known, err := s.openCanaries(ctx, tx)
		if err != nil {
			return err
		}
		id := s.keys.keys[0].ID()
		if known[id] {
			return nil
		}
		sealed, err := s.keys.seal(canaryText, "sluice_canary", "sealed", id)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO sluice_canary (key_id, sealed, created_at) VALUES (?, ?, ?)", id, sealed, millis(s.now()))
		return err
	})
	return s.wrap("check secrets", err)
}

func (s *Store) openCanaries(ctx context.Context, tx bun.Tx) (map[string]bool, error) {
	rows, err := tx.QueryContext(ctx, "SELECT key_id, sealed FROM sluice_canary"+s.main.locking)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	known := map[string]bool{}
	for rows.Next() {
		var id string
		var sealed []byte
		if err := rows.Scan(&id, &sealed); err != nil {
			return nil, err
		}
		if text, err := s.keys.open(sealed, "sluice_canary", "sealed", id); err != nil || text != canaryText {
			return nil, core.WrapError(core.CodeConflict, err, "CRYPTO_SECRET does not open this database, which holds values sealed under another secret (key id %s); "+
				"set CRYPTO_SECRET to the value that this database was used with, the same on all nodes, or, to change it, put the former value into CRYPTO_SECRET_OLD", id)
		}
		known[id] = true
	}
	return known, rows.Err()
}
