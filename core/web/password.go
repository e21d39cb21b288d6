package web

import (
	"context"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluice-gateway/sluice/core"
)

// hashParams are OWASP's second choice of argon2id: 19 MiB, so that a node of
// 40 MB can hash a few at once.
var hashParams = &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// maxHashMemory bounds what a stored hash may ask of us, in KiB.
const maxHashMemory = 256 * 1024

// The length of a password in characters. New API stops at 20.
const (
	passwordMin = 8
	passwordMax = 128
)

// CheckPassword says what is wrong with a new password.
func CheckPassword(password core.Secret) error {
	if n := utf8.RuneCountInString(password.Reveal()); n < passwordMin || n > passwordMax {
		return invalidField("password", "must have 8 to 128 characters")
	}
	return nil
}

// HashPassword makes the stored form of a password.
func HashPassword(ctx context.Context, password core.Secret) (core.Secret, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	hash, err := argon2id.CreateHash(password.Reveal(), hashParams)
	if err != nil {
		return "", core.WrapError(core.CodeInternal, err, "internal error")
	}
	return core.Secret(hash), nil
}

// noHash is compared with where there is no user, so that an unknown name costs
// what a wrong password costs. It is the hash of random bytes that nobody kept.
const noHash = "$argon2id$v=19$m=19456,t=2,p=1$7jloIgyCqkknNLOcTV+OFw$360MECq8PC8r2mk8Js2RS12palUaCJ3x1P6lyeNPfRg"

// verifyPassword compares with a stored hash, argon2id or bcrypt (New API's).
// stale reports that it should be made anew.
func verifyPassword(stored, password core.Secret) (ok, stale bool) {
	hash := stored.Reveal()
	switch {
	case strings.HasPrefix(hash, "$argon2id$"):
		params, _, _, err := argon2id.DecodeHash(hash)
		if err != nil || !sane(params) {
			break
		}
		ok, err := argon2id.ComparePasswordAndHash(password.Reveal(), hash)
		same := params.Memory == hashParams.Memory && params.Iterations == hashParams.Iterations && params.Parallelism == hashParams.Parallelism
		return ok && err == nil, !same
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password.Reveal())) == nil, true
	}
	_, _ = argon2id.ComparePasswordAndHash(password.Reveal(), noHash)
	return false, false
}

// sane refuses what the library would panic on, and what would cost too much.
func sane(p *argon2id.Params) bool {
	return p.Memory <= maxHashMemory && p.Iterations >= 1 && p.Iterations <= 64 && p.Parallelism >= 1 && p.SaltLength >= 8 && p.KeyLength >= 16 && p.KeyLength <= 128
}

// Hashing takes memory and a core: few at once, and a queue that ends.
const (
	hashersAtOnce = 2
	hashersWaiter = 64
)

// hashSlots bounds how many passwords are hashed at once.
type hashSlots struct {
	slots   chan struct{}
	waiting atomic.Int64
}

func newHashSlots() *hashSlots { return &hashSlots{slots: make(chan struct{}, hashersAtOnce)} }

// run calls fn when a slot is free.
func (h *hashSlots) run(ctx context.Context, fn func()) error {
	if h.waiting.Add(1) > hashersWaiter {
		h.waiting.Add(-1)
		return core.Errorf(core.CodeOverloaded, "too many log-ins at once; try again shortly")
	}
	select {
	case h.slots <- struct{}{}:
		h.waiting.Add(-1)
	case <-ctx.Done():
		h.waiting.Add(-1)
		return core.WrapError(core.CodeOverloaded, ctx.Err(), "too many log-ins at once; try again shortly")
	}
	defer func() { <-h.slots }()
	fn()
	return nil
}

// hash is CheckPassword and HashPassword within the bound.
func (h *hashSlots) hash(ctx context.Context, password core.Secret) (hash core.Secret, err error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	var inner error
	if err := h.run(ctx, func() { hash, inner = HashPassword(ctx, password) }); err != nil {
		return "", err
	}
	return hash, inner
}
