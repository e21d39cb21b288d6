package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// sessionHash is what is stored of a session's id.
func sessionHash(id string) []byte {
	h := sha256.Sum256([]byte(id))
	return h[:]
}

// CreateSession stores a login and removes the user's expired ones.
func (s *Store) CreateSession(ctx context.Context, x *core.Session) error {
	if x.ID == "" {
		return invalid("session", "has no id")
	}
	now := millis(s.now())
	if _, err := s.main.write.ExecContext(ctx, "DELETE FROM sluice_sessions WHERE user_id = ? AND expires_at <= ?", x.UserID, now); err != nil {
		return s.wrap("create session", err)
	}
	_, err := s.main.write.ExecContext(ctx, `INSERT INTO sluice_sessions (id_hash, user_id, epoch, created_at, expires_at, last_seen_at, ip, user_agent)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, sessionHash(x.ID), x.UserID, x.Epoch, millis(x.CreatedAt), millis(x.ExpiresAt), millis(x.LastSeenAt), clip(x.IP, 64), clip(x.UserAgent, 255))
	if duplicate(err) {
		err = conflict("session", "session exists already")
	}
	return s.wrap("create session", err)
}

// Session finds a living session and its user by the session's id. One that
// is unknown, expired or from before the user's sessions were revoked is
// CodeUnauthorized. The user's own state is the caller's to judge.
func (s *Store) Session(ctx context.Context, id string) (*core.Session, *core.User, error) {
	x := &core.Session{ID: id}
	var u userRow
	var created, expires, seen int64
	err := s.main.read.QueryRowContext(ctx, `SELECT x.user_id, x.epoch, x.created_at, x.expires_at, x.last_seen_at, x.ip, x.user_agent,
 u.username, u.display_name, u.role, u.status, u.email, u.user_group, u.quota, u.used_quota, u.request_count, u.setting_sealed, u.remark, u.session_epoch, u.created_at, u.last_login_at, u.rev
 FROM sluice_sessions x JOIN sluice_users u ON u.id = x.user_id WHERE x.id_hash = ?`, sessionHash(id)).Scan(
		&x.UserID, &x.Epoch, &created, &expires, &seen, &x.IP, &x.UserAgent,
		&u.Username, &u.DisplayName, &u.Role, &u.Status, &u.Email, &u.Group, &u.Quota, &u.UsedQuota, &u.RequestCount, &u.Setting, &u.Remark, &u.SessionEpoch, &u.CreatedAt, &u.LastLoginAt, &u.Rev)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, nil, s.wrap("session", err)
	}
	x.CreatedAt, x.ExpiresAt, x.LastSeenAt = fromMillis(created), fromMillis(expires), fromMillis(seen)
	if err != nil || !s.now().Before(x.ExpiresAt) || x.Epoch < u.SessionEpoch {
		return nil, nil, core.Errorf(core.CodeUnauthorized, "the session has ended; log in again")
	}
	u.ID = x.UserID
	user, err := s.user(&u)
	if err != nil {
		return nil, nil, s.wrap("session", err)
	}
	return x, user, nil
}

// HasSessionFrom reports whether a user has a living session that was begun at
// an address.
func (s *Store) HasSessionFrom(ctx context.Context, userID int64, ip string) (bool, error) {
	var one int
	err := s.main.read.QueryRowContext(ctx, `SELECT 1 FROM sluice_sessions x JOIN sluice_users u ON u.id = x.user_id
 WHERE x.user_id = ? AND x.ip = ? AND x.expires_at > ? AND x.epoch >= u.session_epoch LIMIT 1`, userID, clip(ip, 64), millis(s.now())).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, s.wrap("session from", err)
}

// TouchSession notes that a session was used.
func (s *Store) TouchSession(ctx context.Context, id string, at time.Time) error {
	_, err := s.main.write.ExecContext(ctx, "UPDATE sluice_sessions SET last_seen_at = ? WHERE id_hash = ?", millis(at), sessionHash(id))
	return s.wrap("touch session", err)
}

// DeleteSession ends a session; an unknown one is no error.
func (s *Store) DeleteSession(ctx context.Context, id string) error {
	_, err := s.main.write.ExecContext(ctx, "DELETE FROM sluice_sessions WHERE id_hash = ?", sessionHash(id))
	return s.wrap("delete session", err)
}

// TrimSessions ends a user's oldest sessions until at most keep are left.
func (s *Store) TrimSessions(ctx context.Context, userID int64, keep int) error {
	var oldest int64
	err := s.main.write.QueryRowContext(ctx, "SELECT created_at FROM sluice_sessions WHERE user_id = ? ORDER BY created_at DESC LIMIT 1 OFFSET ?", userID, keep).Scan(&oldest)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = s.main.write.ExecContext(ctx, "DELETE FROM sluice_sessions WHERE user_id = ? AND created_at <= ?", userID, oldest)
	}
	return s.wrap("trim sessions", err)
}
