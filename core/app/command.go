package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
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

// errNoNode is the answer where no node was set up.
func errNoNode(cfg *config.Config) error {
	if cfg.Database.DSN != "" {
		return errors.New("the database of SQL_DSN has no schema of this version: start a node, or run: sluice migrate")
	}
	return fmt.Errorf("no node has run with the data folder %s and the database %s: call this in the node's working folder, or with its --data-dir, SQLITE_PATH or SQL_DSN", cfg.Node.DataDir, cfg.Database.SQLitePath)
}

// ResetPassword gives a user a new password and ends the user's sessions and access
// token: whoever runs it may have lost the account to another. An
// empty password means a random one. It makes no database. It returns the password that was set.
func ResetPassword(ctx context.Context, cfg *config.Config, log *slog.Logger, username string, password core.Secret) (core.Secret, error) {
	if _, err := os.Stat(cfg.Database.SQLitePath); cfg.Secrets.Crypto == "" || (cfg.Database.DSN == "" && errors.Is(err, fs.ErrNotExist)) {
		return "", errNoNode(cfg)
	}
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
		if n, err := st.Pending(ctx); err != nil {
			return err
		} else if n > 0 {
			return errNoNode(cfg)
		}
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
			if err := tx.SetUserAccessToken(ctx, u.ID, nil); err != nil {
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
