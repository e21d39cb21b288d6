package store

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// Options says where the databases are. DSN and LogDSN hold passwords and
// are never logged.
type Options struct {
	DSN         string // go-sql-driver DSN of the main database; "" = SQLite at SQLitePath
	LogDSN      string // DSN of the log database; "" = the main database
	SQLitePath  string
	Keys        *Keyring
	MaxOpen     int           // connections of the pool; 0 = four per core, 16 to 64
	MaxIdle     int           // 0 = MaxOpen
	MaxLifetime time.Duration // 0 = 3 minutes

	// SlowThreshold is from when on a statement is logged, without its
	// values; 0 logs none.
	SlowThreshold time.Duration
	// OnError, if set, is told of every call that failed because of the
	// database; op names the method.
	OnError func(op string, err error)
	Logger  *slog.Logger
	Now     func() time.Time
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	main    *database
	logs    *database // == main unless LogDSN is set
	keys    *Keyring
	logger  *slog.Logger
	now     func() time.Time
	onError func(op string, err error)
	hook    atomic.Pointer[commitHook]
	closed  atomic.Bool
}

type commitHook func(ctx context.Context, rev core.Revision)

// pingTimeout bounds the first contact with a database.
const pingTimeout = 5 * time.Second

// Open opens the pools and asks each database for a sign of life. It makes
// no table: call Migrate, or wait for Pending to be 0, then CheckCanary.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Keys == nil {
		return nil, errors.New("store: no keyring")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{keys: o.Keys, logger: o.Logger, now: o.Now, onError: o.OnError}
	var err error
	if s.main, err = openDatabase(ctx, "main", o.DSN, o); err != nil {
		return nil, err
	}
	s.logs = s.main
	if o.LogDSN != "" {
		if s.logs, err = openDatabase(ctx, "log", o.LogDSN, o); err != nil {
			return nil, errors.Join(err, s.main.close())
		}
	}
	return s, nil
}

// Close closes the pools. Calls under way fail.
func (s *Store) Close() error {
	s.closed.Store(true)
	err := s.main.close()
	if s.logs != s.main {
		err = errors.Join(err, s.logs.close())
	}
	return err
}

// Dialect is "mysql" or "sqlite".
func (s *Store) Dialect() string { return s.main.dialect() }

// Ping asks both databases for a sign of life.
func (s *Store) Ping(ctx context.Context) error {
	err := s.main.write.PingContext(ctx)
	if err == nil && s.logs != s.main {
		err = s.logs.write.PingContext(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		err = unavailable(err)
	}
	return s.wrap("ping", err)
}

// OnCommit sets the function that is called after each Update that raised
// the revision, before Update returns. Its ctx outlives the caller's and ends
// after five seconds.
func (s *Store) OnCommit(fn func(ctx context.Context, rev core.Revision)) {
	h := commitHook(fn)
	s.hook.Store(&h)
}

func (s *Store) committed(ctx context.Context, rev core.Revision) {
	h := s.hook.Load()
	if h == nil || *h == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	(*h)(ctx, rev)
}

// millis is how times are stored: unix milliseconds, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
