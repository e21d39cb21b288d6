package core

import (
	"slices"
	"strings"
)

// priceIndex finds what a model costs. A name that ends in * is a family: its
// fields count for every model that begins so, unless the model's own entry or a
// longer family says otherwise.
type priceIndex struct {
	list     map[string]*Price
	families []*Price          // longest name first
	known    map[string]*Price // resolved beforehand: listed and routed models
}

func newPriceIndex(list map[string]*Price, models map[string][]string) *priceIndex {
	x := &priceIndex{list: list, known: make(map[string]*Price, len(list))}
	for name, p := range list {
		if strings.HasSuffix(name, "*") {
			x.families = append(x.families, p)
		}
	}
	slices.SortFunc(x.families, func(a, b *Price) int {
		if len(a.Model) != len(b.Model) {
			return len(b.Model) - len(a.Model)
		}
		return strings.Compare(a.Model, b.Model)
	})
	for name := range list {
		x.known[name] = x.resolve(name)
	}
	for _, names := range models {
		for _, name := range names {
			if x.known[name] == nil {
				x.known[name] = x.resolve(name)
			}
		}
	}
	return x
}

// resolve lays the families under the model's own entry. Price per call and per
// token exclude each other, so they come from the same place. A locked completion
// of the nearest family wins over the entry, as New API has it, but for names
// with a slash, where the entry wins.
func (x *priceIndex) resolve(model string) *Price {
	out := Price{}
	if own := x.list[model]; own != nil {
		out = *own
	}
	out.Model = model
	if strings.HasSuffix(model, "*") {
		return &out
	}
	priced := out.Ratio != nil || out.PerCall != nil
	ownCompletion, locked, near := out.Completion, out.Locked, false
	for _, f := range x.families {
		if !strings.HasPrefix(model, f.Model[:len(f.Model)-1]) {
			continue
		}
		if !priced && (f.Ratio != nil || f.PerCall != nil) {
			out.Ratio, out.PerCall, priced = f.Ratio, f.PerCall, true
		}
		if f.Completion != nil && !near {
			near = true
			switch {
			case locked:
			case f.Locked && (ownCompletion == nil || !strings.Contains(model, "/")):
				out.Completion, out.Locked = f.Completion, true
			case ownCompletion == nil:
				out.Completion = f.Completion
			}
		}
		for _, pair := range [...][2]**Ratio{{&out.Cache, &f.Cache}, {&out.CreateCache, &f.CreateCache}, {&out.Image, &f.Image},
			{&out.Audio, &f.Audio}, {&out.AudioCompletion, &f.AudioCompletion}, {&out.AudioInputUSD, &f.AudioInputUSD}} {
			if *pair[0] == nil {
				*pair[0] = *pair[1]
			}
		}
		if out.Sizes == nil {
			out.Sizes = f.Sizes
		}
		if out.Qualities == nil {
			out.Qualities = f.Qualities
		}
	}
	return &out
}

// Price is what model costs: its own entry with its families under it. ok is
// false where neither a ratio nor a price per call is known; the other fields
// are filled all the same. The value is shared: do not change it.
func (s *Snapshot) Price(model string) (p *Price, ok bool) {
	x := s.prices
	if x == nil { // a snapshot that was not made by NewSnapshot
		x = newPriceIndex(s.Prices, nil)
	}
	p = x.known[model]
	if p == nil {
		p = x.resolve(model)
	}
	return p, p.Ratio != nil || p.PerCall != nil
}
