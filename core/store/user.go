package store

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// userRow is a row of sluice_users. Setting is sealed: it may hold the
// secrets of a user's webhooks.
type userRow struct {
	bun.BaseModel `bun:"table:sluice_users,alias:u"`
	ID            int64  `bun:"id,pk,autoincrement"`
	Username      string `bun:"username"`
	PasswordHash  string `bun:"password_hash"`
	AccessHash    []byte `bun:"access_token_hash"`
	DisplayName   string `bun:"display_name"`
	Role          int    `bun:"role"`
	Status        int    `bun:"status"`
	Email         string `bun:"email"`
	Group         string `bun:"user_group"`
	Quota         int64  `bun:"quota"`
	UsedQuota     int64  `bun:"used_quota"`
	RequestCount  int64  `bun:"request_count"`
	Setting       []byte `bun:"setting_sealed"`
	Remark        string `bun:"remark"`
	SessionEpoch  int64  `bun:"session_epoch"`
	CreatedAt     int64  `bun:"created_at"`
	LastLoginAt   int64  `bun:"last_login_at"`
	Rev           int64  `bun:"rev"`
}

const usersTable = "sluice_users"

// user opens a row.
func (s *Store) user(r *userRow) (*core.User, error) {
	u := r.user()
	var err error
	if u.Setting, err = s.keys.open(r.Setting, usersTable, "setting", strconv.FormatInt(r.ID, 10)); err != nil {
		return nil, fmt.Errorf("setting of user %d: %w", r.ID, err)
	}
	return u, nil
}

// user is the row without its setting.
func (r *userRow) user() *core.User {
	return &core.User{ID: r.ID, Username: r.Username, PasswordHash: core.Secret(r.PasswordHash), DisplayName: r.DisplayName,
		Role: core.Role(r.Role), Status: core.UserStatus(r.Status), Email: r.Email, Group: r.Group, Quota: r.Quota, UsedQuota: r.UsedQuota,
		RequestCount: r.RequestCount, Remark: r.Remark, SessionEpoch: r.SessionEpoch, CreatedAt: fromMillis(r.CreatedAt),
		LastLoginAt: fromMillis(r.LastLoginAt), Rev: core.Revision(r.Rev)}
}

// checkUser bounds what management writes of a user.
func checkUser(u *core.User) error {
	if err := checkIdentity("username", u.Username, 191); err != nil {
		return err
	}
	if err := checkIdentity("group", u.Group, 255); err != nil {
		return err
	}
	for _, f := range []struct {
		name, text string
		limit      int
	}{{"password", u.PasswordHash.Reveal(), 255}, {"display_name", u.DisplayName, 191}, {"email", u.Email, 191}, {"remark", u.Remark, 255}, {"setting", u.Setting, 64 << 10}} {
		if err := checkText(f.name, f.text, f.limit); err != nil {
			return err
		}
	}
	if !u.Role.Valid() {
		return invalid("role", "%d is no role of a user", u.Role)
	}
	if u.Status != core.UserEnabled && u.Status != core.UserDisabled {
		return invalid("status", "%d is no state of a user", u.Status)
	}
	return checkQuota("quota", u.Quota)
}

func checkQuota(field string, n int64) error {
	if n < -core.MaxQuota || n > core.MaxQuota {
		return invalid(field, "is out of range")
	}
	return nil
}

// fill copies the columns that management writes.
func (r *userRow) fill(u *core.User) {
	r.Username, r.DisplayName, r.Role, r.Status = u.Username, u.DisplayName, int(u.Role), int(u.Status)
	r.Email, r.Group, r.Remark, r.SessionEpoch = u.Email, u.Group, u.Remark, u.SessionEpoch
	if u.PasswordHash != "" {
		r.PasswordHash = u.PasswordHash.Reveal()
	}
}

// CreateUser inserts a user with its balance and sets ID and, if it is
// zero, CreatedAt.
func (tx *Tx) CreateUser(ctx context.Context, u *core.User) error {
	if err := checkUser(u); err != nil {
		return err
	}
	if u.CreatedAt.IsZero() {
		u.CreatedAt = tx.s.now()
	}
	row := &userRow{Quota: u.Quota, CreatedAt: millis(u.CreatedAt)}
	row.fill(u)
	if _, err := tx.db.NewInsert().Model(row).Exec(ctx); err != nil {
		return usernameTaken(err, u.Username)
	}
	u.ID = row.ID
	if u.Setting != "" {
		sealed, err := tx.s.keys.seal(u.Setting, usersTable, "setting", strconv.FormatInt(row.ID, 10))
		if err != nil {
			return err
		}
		if _, err := tx.db.ExecContext(ctx, "UPDATE sluice_users SET setting_sealed = ? WHERE id = ?", sealed, row.ID); err != nil {
			return err
		}
	}
	tx.noteID(core.KindUser, row.ID, core.OpPut).with("created", true)
	return nil
}

func usernameTaken(err error, name string) error {
	if duplicate(err) {
		return conflict("username", "username %q is taken", name)
	}
	return err
}

// SaveUser writes username, password hash (an empty one keeps the stored one),
// display name, role, status, email, group, setting, remark and session epoch.
func (tx *Tx) SaveUser(ctx context.Context, u *core.User) error {
	if err := checkUser(u); err != nil {
		return err
	}
	before := new(userRow)
	if err := tx.lock(ctx, before, "user", "id = ?", u.ID); err != nil {
		return err
	}
	after := *before
	after.fill(u)
	id := strconv.FormatInt(u.ID, 10)
	old, err := tx.s.keys.open(before.Setting, usersTable, "setting", id)
	if err != nil {
		old = "" // replaced by what is saved now
	}
	if after.Setting, err = tx.s.keys.resealed(before.Setting, old, u.Setting, usersTable, "setting", u.ID); err != nil {
		return err
	}
	_, err = tx.save(ctx, core.KindUser, id, before, &after)
	return usernameTaken(err, u.Username)
}

// DeleteUser removes a user with its tokens and sessions. Its log rows stay.
func (tx *Tx) DeleteUser(ctx context.Context, id int64) error {
	if err := tx.lock(ctx, new(userRow), "user", "id = ?", id); err != nil {
		return err
	}
	var tokens []int64
	if err := tx.scanIDs(ctx, &tokens, "SELECT id FROM sluice_tokens WHERE user_id = ? ORDER BY id"+tx.s.main.locking, id); err != nil {
		return err
	}
	for _, q := range []string{"DELETE FROM sluice_tokens WHERE user_id = ?", "DELETE FROM sluice_sessions WHERE user_id = ?", "DELETE FROM sluice_users WHERE id = ?"} {
		if _, err := tx.db.ExecContext(ctx, q, id); err != nil {
			return err
		}
	}
	for _, t := range tokens {
		tx.noteID(core.KindToken, t, core.OpDelete)
	}
	tx.noteID(core.KindUser, id, core.OpDelete)
	return nil
}

func (tx *Tx) scanIDs(ctx context.Context, out *[]int64, query string, args ...any) error {
	rows, err := tx.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		*out = append(*out, id)
	}
	return rows.Err()
}

// SetUserAccessToken stores the hash of a user's access token
// (Keyring.AccessTokenHash); nil removes it.
func (tx *Tx) SetUserAccessToken(ctx context.Context, id int64, hash []byte) error {
	n, err := matched(tx.db.ExecContext(ctx, "UPDATE sluice_users SET access_token_hash = ? WHERE id = ?", hash, id))
	switch {
	case duplicate(err):
		return conflict("access_token", "access token is taken")
	case err != nil:
		return err
	case n == 0:
		return notFound("user")
	}
	tx.noteID(core.KindUser, id, core.OpPut, "access_token")
	return nil
}

// UserForUpdate reads a user and keeps it locked until the end of the
// transaction.
func (tx *Tx) UserForUpdate(ctx context.Context, id int64) (*core.User, error) {
	row := new(userRow)
	if err := tx.lock(ctx, row, "user", "id = ?", id); err != nil {
		return nil, err
	}
	return tx.s.user(row)
}

// HasRoot reports whether there is a root user, and keeps others from making
// one until the end of the transaction.
func (tx *Tx) HasRoot(ctx context.Context) (bool, error) {
	if _, err := tx.db.ExecContext(ctx, "UPDATE sluice_sync_rev SET rev = rev + 0 WHERE id = 1"); err != nil {
		return false, err
	}
	var ids []int64
	err := tx.scanIDs(ctx, &ids, "SELECT id FROM sluice_users WHERE role = ? LIMIT 1"+tx.s.main.locking, int(core.RoleRoot))
	return len(ids) > 0, err
}

// AddQuota changes a user's balance by an administrator's word. It does not
// take a balance below zero, unless it is there already, nor above MaxQuota.
func (tx *Tx) AddQuota(ctx context.Context, userID, delta int64) error {
	if err := checkQuota("quota", delta); err != nil {
		return err
	}
	old, err := tx.quota(ctx, userID)
	if err != nil {
		return err
	}
	if err := checkQuota("quota", old+delta); err != nil {
		return invalid("quota", "the balance would be out of range")
	}
	if delta < 0 && old >= 0 && old+delta < 0 {
		return invalid("quota", "the balance is %d, less than what is to be taken", old)
	}
	return tx.putQuota(ctx, userID, old, old+delta)
}

// SetQuota replaces a user's balance and returns the former one.
func (tx *Tx) SetQuota(ctx context.Context, userID, quota int64) (old int64, err error) {
	if err := checkQuota("quota", quota); err != nil {
		return 0, err
	}
	if old, err = tx.quota(ctx, userID); err != nil {
		return 0, err
	}
	return old, tx.putQuota(ctx, userID, old, quota)
}

func (tx *Tx) quota(ctx context.Context, userID int64) (n int64, err error) {
	err = tx.db.QueryRowContext(ctx, "SELECT quota FROM sluice_users WHERE id = ?"+tx.s.main.locking, userID).Scan(&n)
	return n, missing(err, "user")
}

func (tx *Tx) putQuota(ctx context.Context, userID, old, quota int64) error {
	if err := mustMatch(tx.db.ExecContext(ctx, "UPDATE sluice_users SET quota = ? WHERE id = ? AND quota = ?", quota, userID, old)); err != nil {
		return fmt.Errorf("write balance: %w", err)
	}
	c := tx.noteID(core.KindUser, userID, core.OpPut, "quota")
	c.with("quota_before", old)
	c.with("quota_after", quota)
	return nil
}

// RevokeSessions ends all logins of a user.
func (tx *Tx) RevokeSessions(ctx context.Context, userID int64) error {
	n, err := matched(tx.db.ExecContext(ctx, "UPDATE sluice_users SET session_epoch = session_epoch + 1 WHERE id = ?", userID))
	if err != nil {
		return err
	}
	if n == 0 {
		return notFound("user")
	}
	if _, err := tx.db.ExecContext(ctx, "DELETE FROM sluice_sessions WHERE user_id = ?", userID); err != nil {
		return err
	}
	tx.noteID(core.KindUser, userID, core.OpPut, "session_epoch")
	tx.noteID(core.KindSession, userID, core.OpDelete)
	return nil
}

// User reads a user.
func (s *Store) User(ctx context.Context, id int64) (*core.User, error) {
	row := new(userRow)
	if err := s.main.read.NewSelect().Model(row).Where("id = ?", id).Scan(ctx); err != nil {
		return nil, s.wrap("user", missing(err, "user"))
	}
	u, err := s.user(row)
	return u, s.wrap("user", err)
}

// UserByLogin finds a user by name or else by an email address that only one
// user has.
func (s *Store) UserByLogin(ctx context.Context, login string) (*core.User, error) {
	var rows []*userRow
	err := s.main.read.NewSelect().Model(&rows).Where("username = ?", login).Limit(1).Scan(ctx)
	if err == nil && len(rows) == 0 && login != "" {
		err = s.main.read.NewSelect().Model(&rows).Where("email = ?", login).Limit(2).Scan(ctx)
	}
	if err != nil {
		return nil, s.wrap("user by login", err)
	}
	if len(rows) != 1 || (rows[0].Username != login && rows[0].Email != login) {
		return nil, notFound("user")
	}
	u, err := s.user(rows[0])
	return u, s.wrap("user by login", err)
}

// UserByAccessToken finds the owner of an access token.
func (s *Store) UserByAccessToken(ctx context.Context, token core.Secret) (*core.User, error) {
	if token == "" {
		return nil, notFound("user")
	}
	hashes := s.keys.accessHashes(token)
	row := new(userRow)
	err := s.main.read.NewSelect().Model(row).Where("access_token_hash IN (?)", bun.List(hashes)).Limit(1).Scan(ctx)
	if err != nil {
		return nil, s.wrap("user by access token", missing(err, "user"))
	}
	if !anyEqual(hashes, row.AccessHash) {
		return nil, notFound("user")
	}
	u, err := s.user(row)
	return u, s.wrap("user by access token", err)
}

// anyEqual compares in constant time.
func anyEqual(hashes [][]byte, got []byte) bool {
	equal := 0
	for _, h := range hashes {
		equal |= subtle.ConstantTimeCompare(h, got)
	}
	return equal == 1
}

// UserFilter selects users; zero values select all.
type UserFilter struct {
	Keyword string // part of name, display name or email, or an id
	Group   string
	Role    core.Role
	Status  core.UserStatus
}

// Users lists users, newest first, without their password hashes.
func (s *Store) Users(ctx context.Context, p core.PageQuery, f UserFilter) (core.Page[*core.User], error) {
	var rows []*userRow
	q := s.main.read.NewSelect().Model(&rows).ExcludeColumn("password_hash", "access_token_hash")
	if f.Keyword != "" {
		like, err := pattern(f.Keyword)
		if err != nil {
			return core.Page[*core.User]{}, err
		}
		q = q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
			q = contains(q, like, "username", "display_name", "email")
			if id, err := strconv.ParseInt(f.Keyword, 10, 64); err == nil {
				q = q.WhereOr("id = ?", id)
			}
			return q
		})
	}
	if f.Group != "" {
		q = q.Where("user_group = ?", f.Group)
	}
	if f.Role != 0 {
		q = q.Where("role = ?", int(f.Role))
	}
	if f.Status != 0 {
		q = q.Where("status = ?", int(f.Status))
	}
	total, err := window(q.OrderExpr("id DESC"), p).ScanAndCount(ctx)
	if err != nil {
		return core.Page[*core.User]{}, s.wrap("users", err)
	}
	page := core.Page[*core.User]{Total: int64(total), Items: make([]*core.User, len(rows))}
	for i, r := range rows {
		if page.Items[i], err = s.user(r); err != nil { // listed all the same, so that it can be repaired
			s.logger.WarnContext(ctx, "user's setting is not readable", "user", r.ID, "error", err)
			page.Items[i] = r.user()
		}
	}
	return page, nil
}

// CountUsers is the number of users.
func (s *Store) CountUsers(ctx context.Context) (n int64, err error) {
	err = s.main.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM sluice_users").Scan(&n)
	return n, s.wrap("count users", err)
}

// HasRoot reports whether there is a root user.
func (s *Store) HasRoot(ctx context.Context) (bool, error) {
	var id int64
	err := s.main.read.QueryRowContext(ctx, "SELECT id FROM sluice_users WHERE role = ? LIMIT 1", int(core.RoleRoot)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, s.wrap("has root", err)
}

// TouchUserLogin notes a login. It is no replicated state.
func (s *Store) TouchUserLogin(ctx context.Context, userID int64, at time.Time) error {
	_, err := s.main.write.ExecContext(ctx, "UPDATE sluice_users SET last_login_at = ? WHERE id = ?", millis(at), userID)
	return s.wrap("touch login", err)
}
