package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/store/storetest"
	"github.com/sluice-gateway/sluice/tests/internal/gomysql"
	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

func open(t testing.TB, dsn string, keys *store.Keyring) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DSN: dsn, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func column(t *testing.T, dsn, query string) []string {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestColumns: every text is compared byte by byte, every number has 64 bits,
// and no time has the zone of a session.
func TestColumns(t *testing.T) {
	for name, dsn := range map[string]string{"mariadb": harness.MemoryMariaDB(t).NewDatabase(t), "go-mysql-server": gomysql.NewDatabase(t)} {
		t.Run(name, func(t *testing.T) {
			open(t, dsn, storetest.Keys(t, storetest.Secret))
			const of = " FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name LIKE 'sluice%' AND "
			if got := column(t, dsn, "SELECT CONCAT(table_name, '.', column_name, ' ', collation_name)"+of+"collation_name IS NOT NULL AND collation_name <> 'utf8mb4_bin'"); len(got) > 0 {
				t.Errorf("not compared by bytes: %v", got)
			}
			if got := column(t, dsn, "SELECT CONCAT(table_name, '.', column_name, ' ', data_type)"+of+"LOWER(data_type) NOT IN ('bigint', 'varchar', 'longtext', 'varbinary', 'longblob') AND column_type NOT LIKE 'tinyint(1)%'"); len(got) > 0 {
				t.Errorf("other types: %v", got)
			}
			if got := column(t, dsn, "SELECT column_name"+of+"column_name LIKE '%quota%'"); len(got) < 6 {
				t.Errorf("columns seen: %v", got)
			}
		})
	}
}

// TestEngine: rows are locked and written ahead by InnoDB, whatever the
// server's default is.
func TestEngine(t *testing.T) {
	dsn := harness.MemoryMariaDB(t).NewDatabase(t)
	open(t, dsn, storetest.Keys(t, storetest.Secret))
	if got := column(t, dsn, "SELECT CONCAT(table_name, ' ', engine) FROM information_schema.tables WHERE table_schema = DATABASE() AND engine <> 'InnoDB'"); len(got) > 0 {
		t.Errorf("not InnoDB: %v", got)
	}
}

// TestOutage pauses and kills the server under load: every call answers within
// its deadline, nothing is lost or taken twice, and the store goes on by itself.
func TestOutage(t *testing.T) {
	server := harness.StartMariaDB(t)
	for name, fault := range map[string]struct{ begin, end func() }{
		"paused": {server.Pause, server.Resume},
		"killed": {server.Kill, func() { server.Restart(t) }},
	} {
		t.Run(name, func(t *testing.T) { outage(t, server.NewDatabase(t), fault.begin, fault.end) })
	}
}

func outage(t *testing.T, dsn string, begin, end func()) {
	const start, limit = int64(1_000_000), 250 * time.Millisecond
	s := open(t, dsn, storetest.Keys(t, storetest.Secret))
	u := &core.User{Username: "bob", Role: core.RoleUser, Status: core.UserEnabled, Group: "default", Quota: start}
	if _, err := s.Update(t.Context(), core.Actor{}, func(tx *store.Tx) error { return tx.CreateUser(t.Context(), u) }); err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, s: s, user: u.ID, limit: limit, stop: make(chan struct{})}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() { l.run(i) })
	}
	l.waitFor(20, func() int { return l.settled })
	begin()
	l.waitFor(20, func() int { return l.away })
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	_, err := s.Update(ctx, core.Actor{}, func(tx *store.Tx) error { return tx.PutOption(ctx, "About", "x") })
	cancel()
	if !core.IsCode(err, core.CodeStoreUnavailable) {
		t.Errorf("management write while away: %v", err)
	}
	end()
	settled := l.count(func() int { return l.settled })
	l.waitFor(settled+20, func() int { return l.settled })
	close(l.stop)
	wg.Wait()
	if l.slowest > limit+500*time.Millisecond {
		t.Errorf("one call took %v with a deadline of %v", l.slowest, limit)
	}
	l.finish(start)
}

// load reserves and settles until it is stopped, and remembers what it does
// not know the outcome of.
type load struct {
	t     *testing.T
	s     *store.Store
	user  int64
	limit time.Duration
	stop  chan struct{}

	mu            sync.Mutex
	settled, away int
	slowest       time.Duration
	unknown       []store.Lease         // reserved, perhaps
	unsettled     []store.SettleRequest // settled, perhaps
	spent         int64
}

func (l *load) run(worker int) {
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		default:
		}
		lease := store.Lease{ID: fmt.Sprintf("%d-%d", worker, i), UserID: l.user, Granted: 10}
		var granted int64
		err := l.timed(func(ctx context.Context) (err error) { granted, err = l.s.Reserve(ctx, lease, 1, false); return err })
		if err != nil {
			l.note(func() { l.away++; l.unknown = append(l.unknown, lease) })
			continue
		}
		r := store.SettleRequest{LeaseID: lease.ID, UserID: l.user, Granted: granted, Actual: 4, State: store.LeaseSettled, CountRequest: true}
		err = l.timed(func(ctx context.Context) error {
			done, err := l.s.Settle(ctx, r)
			if err == nil && !done {
				return errors.New("an open lease was not settled")
			}
			return err
		})
		l.note(func() {
			l.spent += r.Actual
			if err != nil {
				l.away++
				l.unsettled = append(l.unsettled, r)
			} else {
				l.settled++
			}
		})
	}
}

// timed runs one call with the deadline that requests have.
func (l *load) timed(fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), l.limit)
	defer cancel()
	begin := time.Now()
	err := fn(ctx)
	took := time.Since(begin)
	l.note(func() { l.slowest = max(l.slowest, took) })
	if err != nil && !core.IsCode(err, core.CodeStoreUnavailable) {
		l.t.Errorf("unexpected error: %v", err)
	}
	return err
}

func (l *load) note(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
}

func (l *load) count(fn func() int) (n int) {
	l.note(func() { n = fn() })
	return n
}

func (l *load) waitFor(n int, fn func() int) {
	l.t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.count(fn) < n {
		select {
		case <-deadline:
			l.t.Fatalf("%d of %d after a minute", l.count(fn), n)
		case <-tick.C:
		}
	}
}

// finish clears up what was left unknown and checks that the sums are right.
func (l *load) finish(start int64) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, lease := range l.unknown {
		if err := l.s.CancelLease(ctx, lease); err != nil {
			l.t.Fatal(err)
		}
	}
	for _, r := range l.unsettled {
		if _, err := l.s.Settle(ctx, r); err != nil {
			l.t.Fatal(err)
		}
	}
	got, err := l.s.Totals(ctx, l.user)
	if err != nil {
		l.t.Fatal(err)
	}
	want := store.Totals{Available: start - l.spent, Used: l.spent, Requests: l.spent / 4}
	if got.Available != want.Available || got.Open != 0 || got.Used != want.Used || got.Requests != want.Requests {
		l.t.Errorf("totals %+v, want %+v", got, want)
	}
	l.t.Logf("%d settled, %d away, %d reserves and %d settlements unknown, slowest call %v", l.settled, l.away, len(l.unknown), len(l.unsettled), l.slowest)
}

// TestReadOnlyServer: a server that became a replica is an outage and not a
// wrong question.
func TestReadOnlyServer(t *testing.T) {
	server := harness.StartMariaDB(t)
	dsn := server.NewDatabase(t)
	s := open(t, dsn, storetest.Keys(t, storetest.Secret))
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	// An account without READ ONLY ADMIN, which would be allowed to write all the same.
	admin, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	exec := func(q string) {
		t.Helper()
		if _, err := admin.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE USER 'plain'@'127.0.0.1' IDENTIFIED BY 'plain-password'")
	exec("GRANT ALL ON " + cfg.DBName + ".* TO 'plain'@'127.0.0.1'")
	cfg.User, cfg.Passwd = "plain", "plain-password"
	plain := open(t, cfg.FormatDSN(), storetest.Keys(t, storetest.Secret))
	put := func(s *store.Store) error {
		_, err := s.Update(t.Context(), core.Actor{}, func(tx *store.Tx) error { return tx.PutOption(t.Context(), "About", rev(t, s)) })
		return err
	}
	exec("SET GLOBAL read_only = 1")
	if err := put(plain); !core.IsCode(err, core.CodeStoreUnavailable) || strings.Contains(err.Error(), "plain-password") {
		t.Fatalf("write: %v", err)
	}
	if _, err := plain.FetchAll(t.Context()); err != nil {
		t.Fatalf("read: %v", err)
	}
	exec("SET GLOBAL read_only = 0")
	if err := put(plain); err != nil {
		t.Fatal(err)
	}
	if err := put(s); err != nil {
		t.Fatal(err)
	}
}

func rev(t *testing.T, s *store.Store) string {
	t.Helper()
	_, r, err := s.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(r)
}

func BenchmarkMariaDB(b *testing.B) {
	s := open(b, harness.MariaDB(b).NewDatabase(b), keys(b))
	u := &core.User{Username: "bob", Role: core.RoleUser, Status: core.UserEnabled, Group: "default", Quota: core.MaxQuota}
	if _, err := s.Update(b.Context(), core.Actor{}, func(tx *store.Tx) error { return tx.CreateUser(b.Context(), u) }); err != nil {
		b.Fatal(err)
	}
	pair := func(id string) error {
		if _, err := s.Reserve(b.Context(), store.Lease{ID: id, UserID: u.ID, Granted: 10, Detail: "{}"}, 1, false); err != nil {
			return err
		}
		_, err := s.Settle(b.Context(), store.SettleRequest{LeaseID: id, UserID: u.ID, Granted: 10, Actual: 5, State: store.LeaseSettled, CountRequest: true})
		return err
	}
	b.Run("reserve and settle", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if err := pair(fmt.Sprintf("%d-%d", b.N, i)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("logs", func(b *testing.B) {
		rows := make([]core.UsageLog, 500)
		for i := range rows {
			rows[i] = core.UsageLog{At: time.Now(), Type: core.LogConsume, UserID: 1, Username: "bob", TokenID: 1, TokenName: "t", ChannelID: 1, Model: "gpt-4", Group: "default", Quota: 5,
				RequestID: fmt.Sprint(i), Other: `{"model_ratio":1,"group_ratio":1,"completion_ratio":1,"frt":12}`}
		}
		for b.Loop() {
			if err := s.InsertLogs(b.Context(), rows); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "rows/s")
	})
}

func keys(b *testing.B) *store.Keyring {
	k, err := store.NewKeyring(storetest.Secret, nil)
	if err != nil {
		b.Fatal(err)
	}
	return k
}
