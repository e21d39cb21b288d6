package store

import (
	"path/filepath"
	"testing"

	"github.com/sluice-gateway/sluice/core"
)

// Ratios are integers in their columns: a decimal would be rounded away by MySQL.
func TestPriceColumnsAreIntegers(t *testing.T) {
	keys, err := NewKeyring("crypto secret of the tests", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{SQLitePath: filepath.Join(t.TempDir(), "p.db"), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	put := func(p *core.Price) {
		t.Helper()
		if _, err := s.Update(t.Context(), core.SystemActor("test"), func(tx *Tx) error { return tx.PutPrice(t.Context(), p) }); err != nil {
			t.Fatal(err)
		}
	}
	put(&core.Price{Model: "m", Ratio: new(core.MustRatio("1.25")), Completion: new(core.PriceNone), PerCall: new(core.MustRatio("0.000000001"))})
	put(&core.Price{Model: "m", Ratio: new(core.MustRatio("0.3")), Completion: new(core.PriceNone), PerCall: new(core.MustRatio("0.000000001"))})
	var kind string
	var ratio int64
	if err := s.main.read.QueryRowContext(t.Context(), "SELECT typeof(ratio), ratio FROM sluice_prices WHERE model = 'm'").Scan(&kind, &ratio); err != nil {
		t.Fatal(err)
	}
	if kind != "integer" || ratio != 300_000_000 {
		t.Errorf("column is %s %d", kind, ratio)
	}
	all, err := s.FetchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := all.Rows.Prices["m"]
	if p == nil || p.Ratio.String() != "0.3" || *p.Completion != core.PriceNone || p.PerCall.String() != "0.000000001" || p.Cache != nil {
		t.Errorf("%+v", p)
	}
}
