package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (e *env) pending(t *testing.T) int {
	t.Helper()
	n, err := e.s.Pending(t.Context())
	must(t, err)
	return n
}

func testMigrate(t *testing.T, e *env) {
	fresh := newFresh(t, e.backend)
	n, err := fresh.Pending(t.Context())
	must(t, err)
	if n == 0 {
		t.Fatal("an empty database has nothing pending")
	}
	if err := fresh.CheckCanary(t.Context()); err == nil {
		t.Fatal("the canary was found in an empty database")
	}
	must(t, fresh.Migrate(t.Context()))
	n, err = fresh.Pending(t.Context())
	must(t, err)
	equal(t, "pending after Migrate", n, 0)
	must(t, fresh.Migrate(t.Context()))

	epoch, rev, err := e.s.Revision(t.Context())
	must(t, err)
	equal(t, "length of epoch", len(epoch), 16)
	equal(t, "first revision", rev, 0)
	must(t, e.s.Migrate(t.Context()))
	again, _, err := e.s.Revision(t.Context())
	must(t, err)
	equal(t, "epoch after another Migrate", again, epoch)
	for _, table := range e.tables(t) {
		if !strings.HasPrefix(table, "sluice_") {
			t.Errorf("table %s is not named sluice_*", table)
		}
	}
}

// newFresh is a store on an empty database.
func newFresh(t *testing.T, b Backend) *store.Store {
	t.Helper()
	o := store.Options{Keys: Keys(t, Secret)}
	if b.NewDatabase != nil {
		o.DSN = b.NewDatabase(t)
	} else {
		o.SQLitePath = t.TempDir() + "/fresh.db"
	}
	s, err := store.Open(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// step is a recorded migration.
type step struct {
	part, num, name string
}

func (e *env) steps(t *testing.T) []step {
	t.Helper()
	var out []step
	for _, r := range e.rows(t, "SELECT part, num, name FROM sluice_migrations ORDER BY part, num") {
		out = append(out, step{r[0], r[1], r[2]})
	}
	return out
}

// undo takes back what a step did.
func (e *env) undo(t *testing.T, s step) {
	t.Helper()
	verb, name, _ := strings.Cut(s.name, " ")
	switch {
	case verb == "create":
		e.exec(t, "DROP TABLE "+name)
	case verb == "index" && !e.mysql():
		e.exec(t, "DROP INDEX "+name)
	case verb == "index":
		table := e.rows(t, "SELECT table_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND index_name = '"+name+"'")[0][0]
		e.exec(t, "DROP INDEX "+name+" ON "+table)
	default:
		e.exec(t, "DELETE FROM sluice_sync_rev")
	}
}

// testHalfDone stops a migration at every step, once before the statement and
// once between statement and record, and lets another node go on.
func testHalfDone(t *testing.T, e *env) {
	all := e.steps(t)
	if len(all) < 20 {
		t.Fatalf("only %d steps are recorded", len(all))
	}
	for _, part := range []string{"main", "log"} {
		var steps []step
		for _, s := range all {
			if s.part == part {
				steps = append(steps, s)
			}
		}
		for n := len(steps) - 1; n >= 0; n-- {
			for _, effect := range []bool{true, false} { // is step n itself done?
				e.exec(t, fmt.Sprintf("DELETE FROM sluice_migrations WHERE part = '%s' AND num >= %s", part, steps[n].num))
				if !effect {
					e.undo(t, steps[n])
				}
				equal(t, "pending at "+steps[n].name, e.pending(t), len(steps)-n)
				must(t, e.s.Migrate(t.Context()))
				equal(t, "pending after "+steps[n].name, e.pending(t), 0)
			}
		}
	}
	equal(t, "steps at the end", len(e.steps(t)), len(all))
	// A holder that died is waited out by the database's clock: an expired lock is taken.
	e.exec(t, "UPDATE sluice_migration_lock SET holder = 'dead', expires_at = 1")
	e.exec(t, "DELETE FROM sluice_migrations WHERE part = 'main' AND num = 1")
	must(t, e.s.Migrate(t.Context()))
	e.user(t, "after", 1)
}

// testNewerSchema: columns that a later version adds do not disturb this one.
func testNewerSchema(t *testing.T, e *env) {
	for _, table := range e.tables(t) {
		e.exec(t, "ALTER TABLE "+table+" ADD COLUMN of_tomorrow BIGINT NULL")
	}
	e.exec(t, "INSERT INTO sluice_migrations (part, num, name, applied_at) VALUES ('main', 9999, 'of tomorrow', 0)")
	equal(t, "pending", e.pending(t), 0)
	must(t, e.s.CheckCanary(t.Context()))
	u := e.user(t, "bob", 100)
	_, key := e.token(t, u.ID, 50)
	c := e.channel(t, core.Channel{Key: "k", Models: []string{"m"}, Groups: []string{"default"}})
	if _, _, err := e.s.CredentialByHash(t.Context(), e.opts.Keys.KeyHashes(key.Reveal())); err != nil {
		t.Fatal(err)
	}
	r, err := e.s.FetchAll(t.Context())
	must(t, err)
	equal(t, "key of channel", r.Rows.Channels[c.ID].Key, "k")
	must(t, e.s.InsertLogs(t.Context(), []core.UsageLog{{At: e.now, UserID: u.ID}}))
	page, err := e.s.Logs(t.Context(), core.LogFilter{}, core.PageQuery{})
	must(t, err)
	equal(t, "log rows", len(page.Items), 1)
	_, err = e.s.Reserve(t.Context(), store.Lease{ID: "l", UserID: u.ID, Granted: 5}, 1, false)
	must(t, err)
	_, err = e.s.Settle(t.Context(), store.SettleRequest{LeaseID: "l", UserID: u.ID, Granted: 5, Actual: 3, State: store.LeaseSettled})
	must(t, err)
	must(t, e.s.UpsertNode(t.Context(), &core.Node{ID: "n"}))
	must(t, e.s.CreateSession(t.Context(), &core.Session{ID: "s", UserID: u.ID, ExpiresAt: e.now.AddDate(0, 0, 1)}))
	if _, _, err := e.s.Session(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
}

// newAPITables are tables of the predecessor, with its names.
var newAPITables = []string{
	"CREATE TABLE users (id BIGINT PRIMARY KEY, username VARCHAR(191), quota BIGINT, `group` VARCHAR(64))",
	"CREATE TABLE tokens (id BIGINT PRIMARY KEY, user_id BIGINT, `key` VARCHAR(48), remain_quota BIGINT)",
	"CREATE TABLE channels (id BIGINT PRIMARY KEY, `key` VARCHAR(191), models VARCHAR(191))",
	"CREATE TABLE options (`key` VARCHAR(191) PRIMARY KEY, value VARCHAR(191))",
	"CREATE TABLE logs (id BIGINT PRIMARY KEY, user_id BIGINT, quota BIGINT)",
	"CREATE TABLE abilities (id BIGINT PRIMARY KEY, model VARCHAR(191))",
	"INSERT INTO users VALUES (1, 'root', 100, 'default')",
	"INSERT INTO tokens VALUES (1, 1, 'abc', 5)",
	"INSERT INTO channels VALUES (1, 'sk-x', 'gpt-4')",
	"INSERT INTO options VALUES ('SystemName', 'New API')",
	"INSERT INTO logs VALUES (1, 1, 5)",
	"INSERT INTO abilities VALUES (1, 'gpt-4')",
}

func testBesideNewAPI(t *testing.T, e *env) {
	o := e.opts
	if e.mysql() {
		o.DSN = e.backend.NewDatabase(t)
	} else {
		o.SQLitePath = t.TempDir() + "/shared.db"
	}
	shared := &env{backend: e.backend, opts: o, now: e.now}
	for _, q := range newAPITables {
		shared.exec(t, q)
	}
	theirs := shared.tables(t)
	state := func() string {
		var b strings.Builder
		for _, table := range theirs {
			b.WriteString(shared.definition(t, table))
			b.WriteString(shared.dump(t, table))
		}
		return b.String()
	}
	before := state()
	shared.s = shared.open(t, o)
	must(t, shared.s.CheckCanary(t.Context()))
	u := shared.user(t, "root", 5)
	shared.token(t, u.ID, 5)
	shared.channel(t, core.Channel{Key: "k"})
	shared.update(t, func(tx *store.Tx) error { return tx.PutOption(t.Context(), "SystemName", "Sluice") })
	must(t, shared.s.InsertLogs(t.Context(), []core.UsageLog{{UserID: 1}}))
	_, err := shared.s.DeleteLogs(t.Context(), e.now)
	must(t, err)
	shared.update(t, func(tx *store.Tx) error { return tx.DeleteUser(t.Context(), u.ID) })
	if after := state(); after != before {
		t.Fatalf("New API's tables changed:\n%s\nbefore:\n%s", after, before)
	}
	for _, table := range shared.tables(t) {
		if !slices.Contains(theirs, table) && !strings.HasPrefix(table, "sluice_") {
			t.Errorf("table %s is not named sluice_*", table)
		}
	}
}

func (e *env) definition(t *testing.T, table string) string {
	t.Helper()
	q := "SELECT sql FROM sqlite_master WHERE name = '" + table + "'"
	if e.mysql() {
		q = "SHOW CREATE TABLE " + table
	}
	return strings.Join(e.rows(t, q)[0], " ") + "\n"
}

// testLogDatabase keeps the usage log apart.
func testLogDatabase(t *testing.T, e *env) {
	if !e.mysql() { // a log DSN is MySQL's; SQLite's main and log are one file
		equal(t, "log table beside the others", slices.Contains(e.tables(t), "sluice_usage_logs"), true)
		return
	}
	o := e.opts
	o.DSN, o.LogDSN = e.backend.NewDatabase(t), e.backend.NewDatabase(t)
	split := &env{backend: e.backend, opts: o, now: e.now}
	split.s = split.open(t, o)
	must(t, split.s.Ping(t.Context()))
	equal(t, "log table in main database", slices.Contains(split.tables(t), "sluice_usage_logs"), false)
	logs := &env{backend: e.backend, opts: store.Options{DSN: o.LogDSN}}
	equal(t, "users in log database", slices.Contains(logs.tables(t), "sluice_users"), false)
	u := split.user(t, "bob", 1)
	must(t, split.s.InsertLogs(t.Context(), []core.UsageLog{{At: e.now, UserID: u.ID, Username: "bob", Quota: 3, Type: core.LogConsume}}))
	page, err := split.s.Logs(t.Context(), core.LogFilter{Username: "bob"}, core.PageQuery{})
	must(t, err)
	equal(t, "rows", len(page.Items), 1)
	equal(t, "rows there", logs.number(t, "SELECT COUNT(*) FROM sluice_usage_logs"), 1)
	n, err := split.s.Pending(t.Context())
	must(t, err)
	equal(t, "pending", n, 0)
}
