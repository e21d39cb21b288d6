package store

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// priceRow is a row of sluice_prices; NULL says nothing. Ratios are kept as
// integers of 10^-9, and as such in the row: a core.Ratio in a Bun model would be
// written as the decimal that it marshals to.
type priceRow struct {
	bun.BaseModel   `bun:"table:sluice_prices,alias:p"`
	Model           string `bun:"model,pk"`
	Ratio           *int64 `bun:"ratio"`
	Completion      *int64 `bun:"completion"`
	Cache           *int64 `bun:"cache_read"`
	CreateCache     *int64 `bun:"cache_write"`
	Image           *int64 `bun:"image"`
	Audio           *int64 `bun:"audio"`
	AudioCompletion *int64 `bun:"audio_completion"`
	PerCall         *int64 `bun:"per_call"`
	AudioInputUSD   *int64 `bun:"audio_input_usd"`
	Rev             int64  `bun:"rev"`
}

// ratios pairs the columns of a row with the fields of a price.
func (r *priceRow) ratios(p *core.Price) []struct {
	column **int64
	field  **core.Ratio
} {
	return []struct {
		column **int64
		field  **core.Ratio
	}{
		{&r.Ratio, &p.Ratio}, {&r.Completion, &p.Completion}, {&r.Cache, &p.Cache}, {&r.CreateCache, &p.CreateCache}, {&r.Image, &p.Image},
		{&r.Audio, &p.Audio}, {&r.AudioCompletion, &p.AudioCompletion}, {&r.PerCall, &p.PerCall}, {&r.AudioInputUSD, &p.AudioInputUSD},
	}
}

func (r *priceRow) price() *core.Price {
	p := &core.Price{Model: r.Model, Rev: core.Revision(r.Rev)}
	for _, x := range r.ratios(p) {
		if *x.column != nil {
			*x.field = new(core.Ratio(**x.column))
		}
	}
	return p
}

// PutPrice inserts or replaces a price.
func (tx *Tx) PutPrice(ctx context.Context, p *core.Price) error {
	if err := checkIdentity("model", p.Model, 255); err != nil {
		return err
	}
	row := &priceRow{Model: p.Model}
	for _, x := range row.ratios(p) {
		if *x.field != nil {
			*x.column = new(int64(**x.field))
		}
	}
	return put(ctx, tx, core.KindPrice, p.Model, new(priceRow), row, "model = ?")
}

// DeletePrice removes a price.
func (tx *Tx) DeletePrice(ctx context.Context, model string) error {
	return tx.deleteNamed(ctx, core.KindPrice, "DELETE FROM sluice_prices WHERE model = ?", model)
}
