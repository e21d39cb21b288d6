package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/driver/sqliteshim"
	"github.com/uptrace/bun/schema"
)

// database is one database with its handles. On SQLite there is one writing
// connection, which begins every transaction with the write lock taken, and a
// pool of readers; on MySQL both are the same pool.
type database struct {
	write, read *bun.DB
	mysql       *mysql.Config // nil on SQLite
	locking     string        // " FOR UPDATE" where the dialect has it
	memory      *sqliteMemory // nil on MySQL
}

func (d *database) dialect() string {
	if d.mysql != nil {
		return "mysql"
	}
	return "sqlite"
}

func (d *database) close() error {
	err := d.write.Close()
	if d.read != d.write {
		err = errors.Join(err, d.read.Close())
	}
	d.memory.release()
	return err
}

func openDatabase(ctx context.Context, name, dsn string, o Options) (*database, error) {
	open := openMySQL
	if dsn == "" {
		open, dsn = openSQLite, o.SQLitePath
	}
	d, err := open(dsn, o)
	if err != nil {
		return nil, fmt.Errorf("open %s database: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	for _, db := range []*bun.DB{d.write, d.read} { // the writer makes the file
		if err := db.PingContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s database at %s: %w", name, d.where(dsn), d.openError(err)), d.close())
		}
	}
	return d, nil
}

// openError says what to look at. A file that is no database does not become one
// by waiting.
func (d *database) openError(err error) error {
	switch {
	case d.mysql != nil:
		return fmt.Errorf("it does not answer; check that the server runs, and the address, user, password and database name: %w", unavailable(err))
	case notServing(err):
		return fmt.Errorf("it cannot be used now; check the folder's rights, and that the disk has room: %w", unavailable(err))
	}
	return fmt.Errorf("it is no SQLite database that can be used; restore it from a backup, or name another file: %w", err)
}

// where names the database without its password.
func (d *database) where(path string) string {
	if d.mysql != nil {
		return d.mysql.User + "@" + d.mysql.Addr + "/" + d.mysql.DBName
	}
	return path
}

// mysqlBase is the dialect without what Bun would find out by asking the
// server for its version: only the intersection of MariaDB and MySQL is used.
type mysqlBase struct{ *mysqldialect.Dialect }

// Init implements schema.Dialect and asks nothing.
func (mysqlBase) Init(*sql.DB) {}

// sqliteBase is the dialect with texts cleaned of NUL, as Bun does for MySQL;
// its own SQLite dialect would make the whole statement an error.
type sqliteBase struct{ *sqlitedialect.Dialect }

// AppendString implements schema.Dialect.
func (d sqliteBase) AppendString(b []byte, s string) []byte {
	return d.Dialect.AppendString(b, strings.ReplaceAll(s, "\x00", ""))
}

var (
	_ schema.Dialect = mysqlBase{}
	_ schema.Dialect = sqliteBase{}
)

func openMySQL(dsn string, o Options) (*database, error) {
	cfg, err := mysqlConfig(dsn)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("DSN: %w", err)
	}
	pool := sql.OpenDB(connector)
	setPool(pool, o)
	db := withHook(bun.NewDB(pool, mysqlBase{mysqldialect.New()}), o)
	return &database{write: db, read: db, mysql: cfg, locking: " FOR UPDATE"}, nil
}

func setPool(pool *sql.DB, o Options) {
	n := o.MaxOpen
	if n <= 0 {
		n = min(max(4*runtime.NumCPU(), 16), 64)
	}
	idle := o.MaxIdle
	if idle <= 0 {
		idle = n
	}
	life := o.MaxLifetime
	if life <= 0 {
		life = 3 * time.Minute
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(idle)
	pool.SetConnMaxLifetime(life)
	pool.SetConnMaxIdleTime(time.Minute)
}

// mysqlConfig reads a DSN and puts over it what correctness needs: guards count
// matched rows, times are UTC, texts are utf8mb4 and never cut silently, and a
// silent or read-only server is noticed.
func mysqlConfig(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("DSN is not of the form user:password@tcp(host:3306)/database: %w", err)
	}
	if cfg.DBName == "" {
		return nil, errors.New("DSN names no database: write user:password@tcp(host:3306)/database")
	}
	cfg.ParseTime, cfg.Loc = true, time.UTC
	cfg.InterpolateParams = true
	cfg.ClientFoundRows = true
	cfg.RejectReadOnly = true
	cfg.MultiStatements, cfg.AllowAllFiles = false, false
	cfg.Collation = "utf8mb4_general_ci"
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci")); err != nil {
		return nil, err
	}
	cfg.Logger = &mysql.NopLogger{} // errors are returned; its lines would not be structured
	setDefault(&cfg.Timeout, 2*time.Second)
	setDefault(&cfg.ReadTimeout, 10*time.Second)
	setDefault(&cfg.WriteTimeout, 5*time.Second)
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	cfg.Params["time_zone"] = "'+00:00'"
	cfg.Params["sql_mode"] = "'STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
	if _, ok := cfg.Params["innodb_lock_wait_timeout"]; !ok {
		cfg.Params["innodb_lock_wait_timeout"] = "5" // under ReadTimeout, so that a long wait is a retry and not a lost connection
	}
	return cfg, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

func openSQLite(path string, o Options) (*database, error) {
	if path == "" {
		return nil, errors.New("no path of a SQLite file and no DSN")
	}
	if err := makeFile(path); err != nil {
		return nil, err
	}
	uri := "file:" + (&url.URL{Path: path}).EscapedPath()
	write, err := sql.Open(sqliteshim.ShimName, uri+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	read, err := sql.Open(sqliteshim.ShimName, uri+"?_pragma=busy_timeout(5000)&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open SQLite: %w", err), write.Close())
	}
	write.SetMaxOpenConns(1)
	readers := max(4, 2*runtime.NumCPU())
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	return &database{write: withHook(bun.NewDB(write, sqliteBase{sqlitedialect.New()}), o), read: withHook(bun.NewDB(read, sqliteBase{sqlitedialect.New()}), o),
		memory: holdSQLiteMemory()}, nil
}

// makeFile creates the file for its owner alone; SQLite gives the mode to its
// side files.
func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make folder of SQLite file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make SQLite file: %w", err)
	}
	return f.Close()
}

// maxAttempts bounds how often a transaction is begun again.
const maxAttempts = 12

// inTx runs fn in a writing transaction. After a deadlock, a lock time-out or a
// busy file all of it runs again, so fn must be able to.
func (d *database) inTx(ctx context.Context, fn func(tx bun.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := once(ctx, d.write, nil, fn)
		if err == nil || attempt == maxAttempts || !retryable(err) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// pause waits a random time that grows with the attempts.
func pause(ctx context.Context, attempt int) error {
	t := time.NewTimer(rand.N(time.Duration(min(attempt, 8)*attempt) * 2 * time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// inSnapshot runs fn in a reading transaction that sees one state of the
// database: that of its first statement.
func (d *database) inSnapshot(ctx context.Context, fn func(tx bun.Tx) error) error {
	o := &sql.TxOptions{ReadOnly: true}
	if d.mysql != nil {
		o.Isolation = sql.LevelRepeatableRead
	}
	return once(ctx, d.read, o, fn)
}

func once(ctx context.Context, db *bun.DB, o *sql.TxOptions, fn func(tx bun.Tx) error) (err error) {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	ended := false
	defer func() {
		if !ended { // fn failed or panicked
			_ = bounded(ctx, tx.Rollback)
		}
	}()
	if err = fn(tx); err == nil {
		ended = true
		err = bounded(ctx, tx.Commit)
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, sql.ErrTxDone) {
		return ctx.Err() // database/sql ended the transaction on its own
	}
	return err
}

// bounded waits for the end of a transaction no longer than ctx lasts: the
// drivers themselves would wait for a silent server until their read time-out.
// What comes after is not known then; the connection is given up by the driver.
func bounded(ctx context.Context, end func() error) error {
	done := make(chan error, 1)
	go func() { done <- end() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // it ended at the same time
		return err
	default:
		return ctx.Err()
	}
}
