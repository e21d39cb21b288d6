package store

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun/driver/sqliteshim"

	"github.com/sluice-gateway/sluice/core"
)

func testKeys(t testing.TB, secret core.Secret) *Keyring {
	t.Helper()
	k, err := NewKeyring(secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openTest(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Keys == nil {
		o.Keys = testKeys(t, "store test secret 0123456789")
	}
	if o.DSN == "" && o.SQLitePath == "" {
		o.SQLitePath = filepath.Join(t.TempDir(), "sub", "a b%?#.db") // a path that a URI would misread
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSQLiteIsDurable: money is on disk when a commit is answered, writers do
// not collide, and the reading pool cannot write.
func TestSQLiteIsDurable(t *testing.T) {
	s := openTest(t, Options{})
	ctx := t.Context()
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "5000", "foreign_keys": "1"} {
		var got string
		if err := s.main.write.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("writer's %s is %q (%v), want %q", pragma, got, err, want)
		}
	}
	if n := s.main.write.Stats().MaxOpenConnections; n != 1 {
		t.Errorf("%d writing connections", n)
	}
	if _, err := s.main.read.ExecContext(ctx, "DELETE FROM sluice_options"); err == nil {
		t.Error("a reader could write")
	}
	tx, err := s.main.write.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	var path string
	if err := s.main.read.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open(sqliteshim.ShimName, "file:"+(&url.URL{Path: path}).EscapedPath()+"?_pragma=busy_timeout(50)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if _, err := other.ExecContext(ctx, "BEGIN IMMEDIATE"); err == nil {
		t.Error("a second writer began: a transaction does not begin with the lock taken")
	}
}

func TestSlowStatementsAreLoggedWithoutValues(t *testing.T) {
	var log bytes.Buffer
	s := openTest(t, Options{SlowThreshold: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ctx := t.Context()
	u := &core.User{Username: "planted-name", PasswordHash: "planted-hash", Role: core.RoleUser, Status: core.UserEnabled, Group: "planted-group"}
	if _, err := s.Update(ctx, core.Actor{Username: "planted-actor"}, func(tx *Tx) error {
		if err := tx.CreateUser(ctx, u); err != nil {
			return err
		}
		u.PasswordHash = "planted-second"
		return tx.SaveUser(ctx, u)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reserve(ctx, Lease{ID: "planted-lease", UserID: u.ID, Granted: 1}, 1, false); !core.IsCode(err, core.CodeUserQuota) {
		t.Fatal(err)
	}
	if err := s.InsertLogs(ctx, []core.UsageLog{{Content: "planted-content"}}); err != nil {
		t.Fatal(err)
	}
	_, _ = s.UserByLogin(ctx, "planted-login")
	_, _ = s.Users(ctx, core.PageQuery{}, UserFilter{Keyword: "planted-keyword"})
	if n := strings.Count(log.String(), "slow statement"); n < 10 {
		t.Fatalf("%d statements were logged", n)
	}
	if i := strings.Index(log.String(), "planted"); i >= 0 {
		t.Fatalf("a value was logged: %s", log.String()[max(0, i-200):i+20])
	}
}

// TestMigrationWaitsForTheLock: a lock that another holds is waited for, within ctx.
func TestMigrationWaitsForTheLock(t *testing.T) {
	s := openTest(t, Options{})
	if _, err := s.main.write.ExecContext(t.Context(), "UPDATE sluice_migration_lock SET holder = 'other', expires_at = "+s.main.nowSeconds()+" + 100"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.main.write.ExecContext(t.Context(), "DELETE FROM sluice_migrations WHERE num = 1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := s.Migrate(ctx)
	if !core.IsCode(err, core.CodeStoreUnavailable) || !strings.Contains(err.Error(), "migration lock") {
		t.Fatalf("error %v", err)
	}
	if _, err := s.main.write.ExecContext(t.Context(), "UPDATE sluice_migration_lock SET expires_at = "+s.main.nowSeconds()+" - 1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var holder string
	if err := s.main.read.QueryRowContext(t.Context(), "SELECT holder FROM sluice_migration_lock").Scan(&holder); err != nil || holder != "" {
		t.Fatalf("lock is held by %q (%v)", holder, err)
	}
}

// TestMigrationsAreNumberedInOrder: numbers are never reused and have no gap.
func TestMigrationsAreNumberedInOrder(t *testing.T) {
	for _, steps := range [][]migration{mainMigrations, logMigrations} {
		for i, m := range steps {
			if m.num != i+1 {
				t.Errorf("step %d is numbered %d", i+1, m.num)
			}
			for _, mysql := range []bool{true, false} {
				if q := m.statement(mysql); strings.ContainsAny(q, "{}") || strings.Contains(q, ";") {
					t.Errorf("step %d: %s", m.num, q)
				}
			}
		}
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	keys := testKeys(t, "store test secret 0123456789")
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no keys":        {Options{SQLitePath: "x"}, "no keyring"},
		"nothing":        {Options{Keys: keys}, "no path"},
		"no server":      {Options{Keys: keys, DSN: "root:planted@tcp(127.0.0.1:1)/db"}, "check that the server runs"},
		"no database":    {Options{Keys: keys, DSN: "root:planted@tcp(127.0.0.1:1)/"}, "names no database"},
		"not a DSN":      {Options{Keys: keys, DSN: "mysql:planted"}, "not of the form"},
		"no log server":  {Options{Keys: keys, SQLitePath: filepath.Join(t.TempDir(), "x.db"), LogDSN: "root:planted@tcp(127.0.0.1:1)/db"}, "log database"},
		"file is folder": {Options{Keys: keys, SQLitePath: t.TempDir()}, "SQLite file"},
	} {
		_, err := Open(t.Context(), c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		} else if strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: the password is in %v", name, err)
		}
	}
}

func TestMySQLConfig(t *testing.T) {
	cfg, err := mysqlConfig("u:p@tcp(h:3306)/db?clientFoundRows=false&multiStatements=true&parseTime=false&loc=Local&charset=latin1&allowAllFiles=true&readTimeout=33s&tls=skip-verify&innodb_lock_wait_timeout=7&sql_mode=ANSI")
	if err != nil {
		t.Fatal(err)
	}
	dsn := cfg.FormatDSN()
	for _, want := range []string{"clientFoundRows=true", "parseTime=true", "rejectReadOnly=true", "interpolateParams=true", "charset=utf8mb4", "collation=utf8mb4_general_ci",
		"readTimeout=33s", "timeout=2s", "writeTimeout=5s", "tls=skip-verify", "innodb_lock_wait_timeout=7", "STRICT_TRANS_TABLES", "time_zone="} {
		if !strings.Contains(dsn, want) {
			t.Errorf("%s is missing in %s", want, dsn)
		}
	}
	for _, bad := range []string{"multiStatements=true", "allowAllFiles=true", "loc=Local", "ANSI&", "latin1"} {
		if strings.Contains(dsn, bad) {
			t.Errorf("%s stands in %s", bad, dsn)
		}
	}
}

// A batch of log rows is written whole or not at all, wherever it fails.
func TestLogBatchIsAllOrNone(t *testing.T) {
	s, ctx := openTest(t, Options{}), t.Context()
	if _, err := s.logs.write.ExecContext(ctx, "CREATE TRIGGER refuse BEFORE INSERT ON sluice_usage_logs WHEN NEW.model = 'bad' BEGIN SELECT RAISE(FAIL, 'refused'); END"); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		t.Helper()
		if err := s.logs.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM sluice_usage_logs").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, bad := range []int{0, 10, preparedRows + 1, 2*preparedRows + 2} {
		rows := make([]core.UsageLog, 2*preparedRows+3)
		rows[bad].Model = "bad"
		if err := s.InsertLogs(ctx, rows); err == nil || count() != 0 {
			t.Fatalf("row %d is bad: %v, %d rows written", bad, err, count())
		}
	}
	if err := s.InsertLogs(ctx, make([]core.UsageLog, 2*preparedRows+3)); err != nil || count() != 2*preparedRows+3 {
		t.Fatal(err, count())
	}
}
