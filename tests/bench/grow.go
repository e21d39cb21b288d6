package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

// grownChannels is how many channels serve the model of the load in variant
// grown-off: CPU per request must not depend on it.
const grownChannels = 10_000

// grow fills the database of a stopped node.
func grow(path, upURL string, tokens int) (err error) {
	ctx := context.Background()
	keys, err := store.NewKeyring(cryptoSecret, nil)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Options{SQLitePath: path, Keys: keys})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	const batch = 1000
	many := func(n int, make func(tx *store.Tx, i int) error) error {
		for from := 0; from < n; from += batch {
			_, err := st.Update(ctx, core.SystemActor("bench"), func(tx *store.Tx) error {
				for i := from; i < min(from+batch, n); i++ {
					if err := make(tx, i); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	err = many(grownChannels, func(tx *store.Tx, i int) error {
		return tx.CreateChannel(ctx, &core.Channel{Type: 1, Name: fmt.Sprint("grown ", i), Key: "upstream-key", Status: core.ChannelEnabled, BaseURL: upURL,
			Models: []string{"bench", fmt.Sprint("bench-", i)}, Groups: []string{"default"}, CreatedAt: time.Now()})
	})
	if err != nil {
		return err
	}
	return many(tokens, func(tx *store.Tx, i int) error {
		return tx.CreateToken(ctx, &core.Token{UserID: 1, Name: fmt.Sprint("grown ", i), Status: core.TokenEnabled, UnlimitedQuota: true, CreatedAt: time.Now()}, store.NewTokenKey())
	})
}
