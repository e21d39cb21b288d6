package core

import "time"

// Session is a login on the management side. It lives in the database, so that
// it can be revoked; the cookie carries only its signed id.
type Session struct {
	ID         string // 32 random bytes, hex; stored as its SHA-256
	UserID     int64
	Epoch      int64 // User.SessionEpoch at login; a lower one is dead
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastSeenAt time.Time
	IP         string
	UserAgent  string
}
