package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// The states of a lease.
const (
	LeaseOpen     = "open"
	LeaseSettled  = "settled"
	LeaseRefunded = "refunded"
)

// Lease is a reservation: an amount taken from a user, and from a token if
// TokenCharged, until it is settled.
type Lease struct {
	ID        string
	Node      string
	Boot      string
	RequestID string
	UserID    int64
	TokenID   int64
	ChannelID int64
	Granted   int64
	Spent     int64 // the last progress note; the actual amount once settled
	State     string
	Model     string
	Detail    string // what the ledger needs to settle after a crash, JSON
	CreatedAt time.Time

	// TokenCharged tells whether Granted was taken from the token as well.
	// Reserve sets it from its argument.
	TokenCharged bool
}

const leaseColumns = "id, node, boot, request_id, user_id, token_id, token_charged, channel_id, granted, spent, state, model, detail, created_at"

// errTaken means that a guard did not match and the row says why.
func errTaken(code core.Code, whose string, left int64) error {
	return core.Errorf(code, "the balance of the %s is %d, which does not cover this request", whose, left)
}

// Reserve takes l.Granted from the user, and from the token if chargeToken; or
// all that is left of the smaller of both if that is at least min and above
// zero. It returns what was taken and stored in the lease. Otherwise nothing is
// taken: CodeUserQuota, CodeTokenQuota, or CodeUnauthorized if user or token
// are gone. After CodeStoreUnavailable the outcome is unknown: call CancelLease.
func (s *Store) Reserve(ctx context.Context, l Lease, min int64, chargeToken bool) (granted int64, err error) {
	if err := checkLease(l); err != nil {
		return 0, s.wrap("reserve", err)
	}
	if l.CreatedAt.IsZero() {
		l.CreatedAt = s.now()
	}
	l.State, l.TokenCharged = LeaseOpen, chargeToken
	err = s.main.inTx(ctx, func(tx bun.Tx) error {
		var err error
		granted, err = s.reserve(ctx, tx, l, max(min, 1))
		return err
	})
	if err != nil {
		return 0, s.wrap("reserve", err)
	}
	return granted, nil
}

func checkLease(l Lease) error {
	if l.ID == "" || len(l.ID) > 64 {
		return fmt.Errorf("lease id %q has not 1 to 64 bytes", l.ID)
	}
	if l.Granted <= 0 || l.Granted > core.MaxQuota {
		return fmt.Errorf("lease of %d units", l.Granted)
	}
	return nil
}

// reserve inserts the lease first: that row nobody else wants, so the user's is
// locked for shorter. The order user, token is that of every transaction.
func (s *Store) reserve(ctx context.Context, tx bun.Tx, l Lease, min int64) (int64, error) {
	if err := insertLease(ctx, tx, l); err != nil {
		return 0, err
	}
	granted, err := s.take(ctx, tx, "UPDATE sluice_users SET quota = quota - ? WHERE id = ? AND quota >= ?",
		"SELECT quota FROM sluice_users WHERE id = ?", []any{l.UserID}, l.Granted, min, core.CodeUserQuota, "user")
	if err != nil {
		return 0, err
	}
	if l.TokenCharged {
		got, err := s.take(ctx, tx, "UPDATE sluice_tokens SET remain_quota = remain_quota - ? WHERE id = ? AND user_id = ? AND remain_quota >= ?",
			"SELECT remain_quota FROM sluice_tokens WHERE id = ? AND user_id = ?", []any{l.TokenID, l.UserID}, granted, min, core.CodeTokenQuota, "API key")
		if err != nil {
			return 0, err
		}
		if got < granted {
			if err := mustMatch(tx.ExecContext(ctx, "UPDATE sluice_users SET quota = quota + ? WHERE id = ?", granted-got, l.UserID)); err != nil {
				return 0, err
			}
			granted = got
		}
	}
	if granted < l.Granted {
		if err := mustMatch(tx.ExecContext(ctx, "UPDATE sluice_leases SET granted = ? WHERE id = ?", granted, l.ID)); err != nil {
			return 0, err
		}
	}
	return granted, nil
}

func insertLease(ctx context.Context, tx bun.Tx, l Lease) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO sluice_leases ("+leaseColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		l.ID, l.Node, l.Boot, clip(l.RequestID, 64), l.UserID, l.TokenID, l.TokenCharged, l.ChannelID, l.Granted, l.Spent, l.State, clip(l.Model, 255), l.Detail, millis(l.CreatedAt))
	if duplicate(err) {
		return conflict("lease", "lease %s exists already", l.ID)
	}
	return err
}

// take subtracts want by a guarded update. When the guard does not match, the
// row is locked and looked at, and what is left is taken if it is at least min.
func (s *Store) take(ctx context.Context, tx bun.Tx, update, look string, key []any, want, min int64, code core.Code, whose string) (int64, error) {
	guarded := func(n int64) (int64, error) {
		return matched(tx.ExecContext(ctx, update, append(append([]any{n}, key...), n)...))
	}
	if n, err := guarded(want); err != nil || n > 0 {
		return want, err
	}
	var left int64
	err := tx.QueryRowContext(ctx, look+s.main.locking, key...).Scan(&left)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, core.Errorf(core.CodeUnauthorized, "the %s was deleted", whose)
	}
	if err != nil {
		return 0, err
	}
	got := left
	if left >= want {
		got = want // topped up between update and look
	}
	if got < min {
		return 0, errTaken(code, whose, left)
	}
	n, err := guarded(got)
	if err == nil && n == 0 {
		err = errAgain
	}
	return got, err
}

// Progress notes how far an open lease is; a closed or missing one stays as it
// is.
func (s *Store) Progress(ctx context.Context, leaseID string, spent int64, detail string) error {
	_, err := s.main.write.ExecContext(ctx, "UPDATE sluice_leases SET spent = ?, detail = ? WHERE id = ? AND state = ?", spent, detail, leaseID, LeaseOpen)
	return s.wrap("progress", err)
}

// SettleRequest is how a reservation ends.
type SettleRequest struct {
	LeaseID      string // "" = nothing was reserved: only the counters are booked
	UserID       int64
	TokenID      int64 // 0 = none
	ChannelID    int64 // 0 = none
	ChargeToken  bool
	Granted      int64 // as Reserve returned it
	Actual       int64 // what the request costs
	State        string
	AccessedAt   time.Time
	CountRequest bool
}

// Settle closes a lease and books its actual amount on user, token and
// channel, in one transaction and exactly once: done is false, and nothing
// happened, if the lease is missing or not open any more. After an error it may
// be called again until it answers. Without a LeaseID there is no such guard.
//
// The stored lease decides what is given back and to whom; a request that says
// otherwise is corrected by it. A user or token that was deleted meanwhile is
// left out.
func (s *Store) Settle(ctx context.Context, r SettleRequest) (done bool, err error) {
	if r.Actual < 0 || r.Actual > core.MaxQuota || (r.LeaseID != "" && r.State != LeaseSettled && r.State != LeaseRefunded) {
		return false, s.wrap("settle", fmt.Errorf("settlement of %d units as %q", r.Actual, r.State))
	}
	err = s.main.inTx(ctx, func(tx bun.Tx) error {
		req := r
		if req.LeaseID != "" {
			open, err := s.closeLease(ctx, tx, &req)
			if done = open; err != nil || !open {
				return err
			}
		}
		done = true
		return book(ctx, tx, req)
	})
	if err != nil {
		return false, s.wrap("settle", err)
	}
	return done, nil
}

// closeLease marks an open lease as settled or refunded. If the guard over
// everything that the request knows does not match, the row is looked at.
func (s *Store) closeLease(ctx context.Context, tx bun.Tx, r *SettleRequest) (open bool, err error) {
	n, err := matched(tx.ExecContext(ctx, "UPDATE sluice_leases SET state = ?, spent = ? WHERE id = ? AND state = ? AND user_id = ? AND token_id = ? AND token_charged = ? AND granted = ?",
		r.State, r.Actual, r.LeaseID, LeaseOpen, r.UserID, r.TokenID, r.ChargeToken, r.Granted))
	if err != nil || n > 0 {
		return n > 0, err
	}
	var state string
	err = tx.QueryRowContext(ctx, "SELECT state, user_id, token_id, token_charged, granted FROM sluice_leases WHERE id = ?"+s.main.locking, r.LeaseID).
		Scan(&state, &r.UserID, &r.TokenID, &r.ChargeToken, &r.Granted)
	if errors.Is(err, sql.ErrNoRows) || (err == nil && state != LeaseOpen) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n, err = matched(tx.ExecContext(ctx, "UPDATE sluice_leases SET state = ?, spent = ? WHERE id = ? AND state = ?", r.State, r.Actual, r.LeaseID, LeaseOpen))
	return n > 0, err
}

// Statements of book. Sums stop far from the ends of the range instead of
// overflowing: MySQL would refuse the statement for ever, SQLite would turn the
// column into a float.
var (
	bookUser    = "UPDATE sluice_users SET quota = " + plus("quota") + ", used_quota = " + plus("used_quota") + ", request_count = request_count + ? WHERE id = ?"
	bookToken   = "UPDATE sluice_tokens SET remain_quota = " + plus("remain_quota") + ", used_quota = " + plus("used_quota") + ", accessed_at = CASE WHEN accessed_at < ? THEN ? ELSE accessed_at END WHERE id = ?"
	bookChannel = "UPDATE sluice_channels SET used_quota = " + plus("used_quota") + " WHERE id = ?"
)

// plus adds a value to a column that is within twice MaxQuota of zero, so that
// one more amount stays in 64 bits.
func plus(column string) string {
	return fmt.Sprintf("CASE WHEN %[1]s BETWEEN -%[2]d AND %[2]d THEN %[1]s + ? ELSE %[1]s END", column, int64(2*core.MaxQuota))
}

// book moves the money of one settlement, in the order of every transaction:
// user, token, channel.
func book(ctx context.Context, tx bun.Tx, r SettleRequest) error {
	back, count := int64(0), 0
	if r.LeaseID != "" {
		back = r.Granted - r.Actual
	}
	if r.CountRequest {
		count = 1
	}
	if _, err := tx.ExecContext(ctx, bookUser, back, r.Actual, count, r.UserID); err != nil {
		return err
	}
	if r.TokenID != 0 {
		if !r.ChargeToken {
			back = 0
		}
		at := millis(r.AccessedAt)
		if _, err := tx.ExecContext(ctx, bookToken, back, r.Actual, at, at, r.TokenID); err != nil {
			return err
		}
	}
	if r.ChannelID == 0 || r.Actual == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, bookChannel, r.Actual, r.ChannelID)
	return err
}

// CancelLease undoes a Reserve whose outcome is unknown: an open lease is
// refunded; where there is none, its id is used up, so that a transaction still
// on its way cannot take anything.
func (s *Store) CancelLease(ctx context.Context, l Lease) error {
	done, err := s.Settle(ctx, SettleRequest{LeaseID: l.ID, UserID: l.UserID, TokenID: l.TokenID, ChargeToken: l.TokenCharged, Granted: l.Granted, State: LeaseRefunded})
	if err != nil || done {
		return err
	}
	l.State, l.Granted, l.Spent = LeaseRefunded, 0, 0
	if l.CreatedAt.IsZero() {
		l.CreatedAt = s.now()
	}
	err = s.main.inTx(ctx, func(tx bun.Tx) error { return insertLease(ctx, tx, l) })
	if core.IsCode(err, core.CodeConflict) { // closed already, or it arrived meanwhile
		_, err = s.Settle(ctx, SettleRequest{LeaseID: l.ID, UserID: l.UserID, State: LeaseRefunded})
	}
	return s.wrap("cancel lease", err)
}

// maxLeases bounds one OpenLeases.
const maxLeases = 10_000

// OpenLeases lists the oldest open leases of a node that are not of boot
// notBoot; with notBoot "" all of them.
func (s *Store) OpenLeases(ctx context.Context, node, notBoot string) ([]Lease, error) {
	rows, err := s.main.read.QueryContext(ctx, "SELECT "+leaseColumns+" FROM sluice_leases WHERE state = ? AND node = ? AND boot <> ? ORDER BY created_at, id LIMIT ?",
		LeaseOpen, node, notBoot, maxLeases)
	if err != nil {
		return nil, s.wrap("open leases", err)
	}
	defer func() { _ = rows.Close() }()
	var out []Lease
	for rows.Next() {
		var l Lease
		var at int64
		if err := rows.Scan(&l.ID, &l.Node, &l.Boot, &l.RequestID, &l.UserID, &l.TokenID, &l.TokenCharged, &l.ChannelID, &l.Granted, &l.Spent, &l.State, &l.Model, &l.Detail, &at); err != nil {
			return nil, s.wrap("open leases", err)
		}
		l.CreatedAt = fromMillis(at)
		out = append(out, l)
	}
	return out, s.wrap("open leases", rows.Err())
}

// DeleteLeases deletes closed leases of before a time, in batches, and returns
// how many.
func (s *Store) DeleteLeases(ctx context.Context, before time.Time) (int64, error) {
	return s.deleteOld(ctx, s.main, "delete leases", "SELECT id FROM sluice_leases WHERE state IN ('settled', 'refunded') AND created_at < ? LIMIT ?",
		"DELETE FROM sluice_leases WHERE state IN ('settled', 'refunded') AND id IN (?)", millis(before))
}

// Totals is where the money of a user is. Available + Open + Used is constant
// but for what management gives and takes.
type Totals struct {
	Available, Open, Used int64
	Requests              int64
	Tokens                []TokenTotals
}

// TokenTotals is the same for one token.
type TokenTotals struct {
	ID, Remain, Open, Used int64
}

// Totals sums a user's balance, open leases and usage in one consistent read.
func (s *Store) Totals(ctx context.Context, userID int64) (Totals, error) {
	var t Totals
	err := s.main.inSnapshot(ctx, func(tx bun.Tx) error {
		t = Totals{}
		err := tx.QueryRowContext(ctx, "SELECT quota, used_quota, request_count FROM sluice_users WHERE id = ?", userID).Scan(&t.Available, &t.Used, &t.Requests)
		if err != nil {
			return missing(err, "user")
		}
		open := map[int64]int64{}
		if err := openByToken(ctx, tx, userID, &t.Open, open); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT id, remain_quota, used_quota FROM sluice_tokens WHERE user_id = ? ORDER BY id", userID)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var x TokenTotals
			if err := rows.Scan(&x.ID, &x.Remain, &x.Used); err != nil {
				return err
			}
			x.Open = open[x.ID]
			t.Tokens = append(t.Tokens, x)
		}
		return rows.Err()
	})
	return t, s.wrap("totals", err)
}

func openByToken(ctx context.Context, tx bun.Tx, userID int64, sum *int64, byToken map[int64]int64) error {
	rows, err := tx.QueryContext(ctx, "SELECT token_id, token_charged, granted FROM sluice_leases WHERE state = ? AND user_id = ?", LeaseOpen, userID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, granted int64
		var charged bool
		if err := rows.Scan(&id, &charged, &granted); err != nil {
			return err
		}
		*sum += granted
		if charged {
			byToken[id] += granted
		}
	}
	return rows.Err()
}
