package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// optionRow is a row of sluice_options. The value of a key that names a secret
// (core.OptionSecret) is sealed, and Value is then empty.
type optionRow struct {
	bun.BaseModel `bun:"table:sluice_options,alias:o"`
	Name          string `bun:"name,pk"`
	Value         string `bun:"value"`
	Sealed        []byte `bun:"value_sealed"`
	Rev           int64  `bun:"rev"`
}

const optionsTable = "sluice_options"

func (s *Store) optionValue(r *optionRow) (string, error) {
	if len(r.Sealed) == 0 {
		return r.Value, nil
	}
	v, err := s.keys.open(r.Sealed, optionsTable, "value", r.Name)
	if err != nil {
		return "", fmt.Errorf("option %s: %w", r.Name, err)
	}
	return v, nil
}

// PutOption stores an option's value; core.CheckOption must accept it.
func (tx *Tx) PutOption(ctx context.Context, key, value string) error {
	if err := core.CheckOption(key, value); err != nil {
		return err
	}
	if err := checkIdentity("key", key, 191); err != nil {
		return err
	}
	if err := checkText(key, value, 1<<20); err != nil {
		return err
	}
	row := &optionRow{Name: key, Value: value}
	before := new(optionRow)
	err := tx.lock(ctx, before, "option", "name = ?", key)
	if err != nil && !core.IsCode(err, core.CodeNotFound) {
		return err
	}
	if err == nil {
		if old, e := tx.s.optionValue(before); e == nil && old == value && (len(before.Sealed) > 0) == core.OptionSecret(key) {
			return nil
		}
	}
	if core.OptionSecret(key) {
		if row.Sealed, err = tx.s.keys.seal(value, optionsTable, "value", key); err != nil {
			return err
		}
		row.Value = ""
	}
	return put(ctx, tx, core.KindOption, key, new(optionRow), row, "name = ?")
}

// DeleteOption removes a stored option, so that its default counts.
func (tx *Tx) DeleteOption(ctx context.Context, key string) error {
	return tx.deleteNamed(ctx, core.KindOption, "DELETE FROM sluice_options WHERE name = ?", key)
}
