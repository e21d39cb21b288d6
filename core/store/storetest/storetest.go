// Package storetest is the suite that every database behind core/store must
// pass: the same cases run on SQLite, on MariaDB and, as far as they need no
// locks of InnoDB, on another implementation of MySQL's grammar.
package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"           // raw looks at MySQL
	_ "github.com/uptrace/bun/driver/sqliteshim" // raw looks at SQLite

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

// Backend is a kind of database.
type Backend struct {
	// NewDatabase makes an empty MySQL database for one test and returns its
	// DSN; nil stands for SQLite.
	NewDatabase func(t *testing.T) string
	// Isolated says that transactions roll back and rows are locked as InnoDB and
	// SQLite do, so that the cases with many writers and refusals have a meaning,
	// and that tables of ten thousand rows are nothing much.
	Isolated bool
}

// Secret is what the suite's stores are sealed with.
const Secret core.Secret = "storetest crypto secret 0123456789"

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	cases := []struct {
		name string
		run  func(t *testing.T, e *env)
	}{
		{"migrate", testMigrate}, {"migrations half done", testHalfDone}, {"newer schema", testNewerSchema}, {"beside New API", testBesideNewAPI},
		{"separate log database", testLogDatabase},
		{"users", testUsers}, {"identities", testIdentities}, {"balances", testBalances}, {"access tokens", testAccessTokens}, {"sessions", testSessions},
		{"tokens", testTokens}, {"credentials", testCredentials}, {"channels", testChannels}, {"channel lists", testChannelLists},
		{"groups prices options", testNamedRows}, {"searches", testSearches}, {"nodes", testNodes}, {"matched rows", testMatchedRows}, {"odd texts", testOddTexts},
		{"revisions", testRevisions}, {"rolled back", testRolledBack}, {"fetch", testFetch}, {"bad rows", testBadRows}, {"audit", testAudit},
		{"reserve", testReserve}, {"settle", testSettle}, {"settle by the row", testSettleByRow}, {"progress", testProgress}, {"cancel", testCancel},
		{"large sums", testLargeSums}, {"lease cleaning", testDeleteLeases},
		{"logs", testLogs}, {"log filters", testLogFilters},
		{"wrong secret", testWrongSecret}, {"rotation", testRotation}, {"moved secret", testMovedSecret}, {"no secret in clear", testNoSecretInClear},
		{"away", testAway},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, newEnv(t, b)) })
	}
	if !b.Isolated {
		return
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, e *env)
	}{
		{"parallel updates", testParallelUpdates}, {"parallel reserves", testParallelReserves}, {"parallel settles", testParallelSettles}, {"parallel money", testParallelMoney},
		{"parallel migrations", testParallelMigrations}, {"parallel puts", testParallelPuts}, {"parallel setup", testParallelSetup}, {"consistent fetch", testConsistentFetch},
		{"opposite locks", testOppositeLocks}, {"log bounds", testLogBounds}, {"many changes", testManyChanges},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, newEnv(t, b)) })
	}
}

// env is one test's database with an open, migrated store.
type env struct {
	backend Backend
	opts    store.Options
	s       *store.Store
	now     time.Time
}

func newEnv(t *testing.T, b Backend) *env {
	t.Helper()
	e := &env{backend: b, now: time.UnixMilli(1_800_000_000_123).UTC()}
	e.opts = store.Options{Keys: Keys(t, Secret), Now: func() time.Time { return e.now }}
	if b.NewDatabase != nil {
		e.opts.DSN = b.NewDatabase(t)
	} else {
		e.opts.SQLitePath = filepath.Join(t.TempDir(), "sluice.db")
	}
	e.s = e.open(t, e.opts)
	return e
}

// Keys makes a keyring.
func Keys(t *testing.T, secret core.Secret, old ...core.Secret) *store.Keyring {
	t.Helper()
	k, err := store.NewKeyring(secret, old)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// open opens a further store on the same database, migrated.
func (e *env) open(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	must(t, s.Migrate(t.Context()))
	return s
}

// raw opens the database past the store.
func (e *env) raw(t *testing.T) *sql.DB {
	t.Helper()
	driver, dsn := "sqliteshim", "file:"+e.opts.SQLitePath+"?_pragma=busy_timeout(5000)"
	if e.mysql() {
		driver, dsn = "mysql", e.opts.DSN
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (e *env) mysql() bool { return e.opts.DSN != "" }

func (e *env) exec(t *testing.T, query string) {
	t.Helper()
	db := e.raw(t)
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (e *env) number(t *testing.T, query string) int64 {
	t.Helper()
	db := e.raw(t)
	defer func() { _ = db.Close() }()
	var n int64
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// tables lists the tables of the database.
func (e *env) tables(t *testing.T) []string {
	t.Helper()
	q := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
	if e.mysql() {
		q = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name"
	}
	var out []string
	for _, r := range e.rows(t, q) {
		out = append(out, r[0])
	}
	return out
}

// rows reads a query as texts.
func (e *env) rows(t *testing.T, query string) [][]string {
	t.Helper()
	db := e.raw(t)
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	cols, err := rows.Columns()
	must(t, err)
	var out [][]string
	for rows.Next() {
		vals := make([]sql.NullString, len(cols))
		into := make([]any, len(cols))
		for i := range vals {
			into[i] = &vals[i]
		}
		must(t, rows.Scan(into...))
		line := make([]string, len(cols))
		for i, v := range vals {
			line[i] = v.String
		}
		out = append(out, line)
	}
	must(t, rows.Err())
	return out
}

// dump is everything that is in a table, as text.
func (e *env) dump(t *testing.T, table string) string {
	t.Helper()
	var b strings.Builder
	for _, r := range e.rows(t, "SELECT * FROM "+table) {
		fmt.Fprintf(&b, "%q\n", r)
	}
	return b.String()
}

var actor = core.Actor{UserID: 7, Username: "root", IP: "192.0.2.1", RequestID: "req-1", Route: "PUT /api/test/"}

// update is Update that has to succeed.
func (e *env) update(t *testing.T, fn func(tx *store.Tx) error) core.Revision {
	t.Helper()
	rev, err := e.s.Update(t.Context(), actor, fn)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func (e *env) refused(t *testing.T, code core.Code, fn func(tx *store.Tx) error) {
	t.Helper()
	_, err := e.s.Update(t.Context(), actor, fn)
	wantCode(t, err, code)
}

// user makes a user with a balance.
func (e *env) user(t *testing.T, name string, quota int64) *core.User {
	t.Helper()
	u := &core.User{Username: name, Role: core.RoleUser, Status: core.UserEnabled, Group: "default", Quota: quota}
	e.update(t, func(tx *store.Tx) error { return tx.CreateUser(t.Context(), u) })
	return u
}

// token makes a token with a balance and a key.
func (e *env) token(t *testing.T, userID, remain int64) (*core.Token, core.Secret) {
	t.Helper()
	key := store.NewTokenKey()
	tok := &core.Token{UserID: userID, Name: "token", Status: core.TokenEnabled, RemainQuota: remain}
	e.update(t, func(tx *store.Tx) error { return tx.CreateToken(t.Context(), tok, key) })
	return tok, key
}

func (e *env) channel(t *testing.T, c core.Channel) *core.Channel {
	t.Helper()
	if c.Name == "" {
		c.Name = "channel"
	}
	if c.Status == 0 {
		c.Status = core.ChannelEnabled
	}
	e.update(t, func(tx *store.Tx) error { return tx.CreateChannel(t.Context(), &c) })
	return &c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code core.Code) {
	t.Helper()
	if !core.IsCode(err, code) {
		t.Fatalf("error %v, want code %s", err, code)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}

// within bounds a case that would hang when it fails.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
