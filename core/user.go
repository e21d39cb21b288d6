package core

import "time"

// Role is what a user may do. The numbers are New API's.
type Role int

// The roles, lowest first.
const (
	RoleGuest Role = 0
	RoleUser  Role = 1
	RoleAdmin Role = 10
	RoleRoot  Role = 100
)

// Valid reports whether r is a role that a user can have.
func (r Role) Valid() bool { return r == RoleUser || r == RoleAdmin || r == RoleRoot }

// UserStatus is New API's number.
type UserStatus int

// The states of a user.
const (
	UserEnabled  UserStatus = 1
	UserDisabled UserStatus = 2
)

// User is an account. Quota, UsedQuota and RequestCount are the ledger's: they
// change with every request, are not replicated state, and a cached User's
// values of them are old. PasswordHash and AccessToken never reach a cache.
type User struct {
	ID           int64
	Username     string
	PasswordHash Secret // argon2id or bcrypt encoding; "" cannot log in with a password
	DisplayName  string
	Role         Role
	Status       UserStatus
	Email        string
	Group        string
	Quota        int64 // available units
	UsedQuota    int64
	RequestCount int64
	Setting      string // JSON text of the user's own settings, kept as given
	Remark       string
	SessionEpoch int64 // raised to end all sessions of the user
	CreatedAt    time.Time
	LastLoginAt  time.Time // zero = never
	Rev          Revision
}

// Enabled reports whether the account may act.
func (u *User) Enabled() bool { return u.Status == UserEnabled }
