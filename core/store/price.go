package store

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// priceRow is a row of sluice_prices; NULL says nothing. Ratios are kept as
// integers of 10^-9.
type priceRow struct {
	bun.BaseModel   `bun:"table:sluice_prices,alias:p"`
	Model           string      `bun:"model,pk"`
	Ratio           *core.Ratio `bun:"ratio"`
	Completion      *core.Ratio `bun:"completion"`
	Cache           *core.Ratio `bun:"cache_read"`
	CreateCache     *core.Ratio `bun:"cache_write"`
	Image           *core.Ratio `bun:"image"`
	Audio           *core.Ratio `bun:"audio"`
	AudioCompletion *core.Ratio `bun:"audio_completion"`
	PerCall         *core.Ratio `bun:"per_call"`
	AudioInputUSD   *core.Ratio `bun:"audio_input_usd"`
	Rev             int64       `bun:"rev"`
}

func (r *priceRow) price() *core.Price {
	return &core.Price{Model: r.Model, Ratio: r.Ratio, Completion: r.Completion, Cache: r.Cache, CreateCache: r.CreateCache, Image: r.Image,
		Audio: r.Audio, AudioCompletion: r.AudioCompletion, PerCall: r.PerCall, AudioInputUSD: r.AudioInputUSD, Rev: core.Revision(r.Rev)}
}

// PutPrice inserts or replaces a price.
func (tx *Tx) PutPrice(ctx context.Context, p *core.Price) error {
	if err := checkIdentity("model", p.Model, 255); err != nil {
		return err
	}
	row := &priceRow{Model: p.Model, Ratio: p.Ratio, Completion: p.Completion, Cache: p.Cache, CreateCache: p.CreateCache, Image: p.Image,
		Audio: p.Audio, AudioCompletion: p.AudioCompletion, PerCall: p.PerCall, AudioInputUSD: p.AudioInputUSD}
	return put(ctx, tx, core.KindPrice, p.Model, new(priceRow), row, "model = ?")
}

// DeletePrice removes a price.
func (tx *Tx) DeletePrice(ctx context.Context, model string) error {
	return tx.deleteNamed(ctx, core.KindPrice, "DELETE FROM sluice_prices WHERE model = ?", model)
}
