package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/web"
)

// withStore runs fn on the configured database.
func withStore(ctx context.Context, cfg *config.Config, log *slog.Logger, fn func(*store.Store) error) (err error) {
	keys, err := store.NewKeyring(cfg.Secrets.Crypto, cfg.Secrets.CryptoOld)
	if err != nil {
		return fmt.Errorf("CRYPTO_SECRET: %w", err)
	}
	o := storeOptions(cfg, keys)
	o.Logger = log
	st, err := store.Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return fn(st)
}

// Migrate brings the schema up and says how many migrations were made.
func Migrate(ctx context.Context, cfg *config.Config, log *slog.Logger) (made int, err error) {
	err = withStore(ctx, cfg, log, func(st *store.Store) error {
		if made, err = st.Pending(ctx); err != nil {
			return err
		}
		if err := st.Migrate(ctx); err != nil {
			return err
		}
		return st.CheckCanary(ctx)
	})
	return made, err
}

// ResetPassword gives a user a new password and ends the user's sessions. An
// empty password means a random one. It returns the password that was set.
func ResetPassword(ctx context.Context, cfg *config.Config, log *slog.Logger, username string, password core.Secret) (core.Secret, error) {
	if password == "" {
		password = core.Secret(randomPassword())
	}
	if err := web.CheckPassword(password); err != nil {
		return "", err
	}
	hash, err := web.HashPassword(ctx, password)
	if err != nil {
		return "", err
	}
	return password, withStore(ctx, cfg, log, func(st *store.Store) error {
		if err := st.CheckCanary(ctx); err != nil {
			return err
		}
		u, err := st.UserByLogin(ctx, username)
		if err != nil {
			return fmt.Errorf("user %q: %w", username, err)
		}
		_, err = st.Update(ctx, core.SystemActor("user reset-password"), func(tx *store.Tx) error {
			u, err := tx.UserForUpdate(ctx, u.ID)
			if err != nil {
				return err
			}
			u.PasswordHash = hash
			if err := tx.SaveUser(ctx, u); err != nil {
				return err
			}
			return tx.RevokeSessions(ctx, u.ID)
		})
		return err
	})
}

// randomPassword has 20 characters of 32: 100 bits.
func randomPassword() string {
	const letters = "abcdefghjkmnpqrstuvwxyz23456789A"
	var b [20]byte
	rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b[:])
}

// demoTimeout bounds the making of the demo's rows.
const demoTimeout = 30 * time.Second
