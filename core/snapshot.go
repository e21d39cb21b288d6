package core

import (
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// Tier is the channels of one priority for one (group, model), with cumulated
// weights for a weighted pick in O(log n).
type Tier struct {
	Priority int64
	Channels []*Channel
	cum      []int64
}

// Pick draws a channel by weight among those that accept allows; nil when none is
// allowed. A refused draw is repeated a few times before the tier is walked, so
// that the usual cost does not grow with its size.
func (t *Tier) Pick(rnd *rand.Rand, accept func(*Channel) bool) *Channel {
	n := len(t.Channels)
	if n == 0 {
		return nil
	}
	total := t.cum[n-1]
	for range 4 {
		x := rnd.Int64N(total)
		c := t.Channels[sort.Search(n, func(i int) bool { return t.cum[i] > x })]
		if accept(c) {
			return c
		}
	}
	var sum int64
	var chosen *Channel
	prev := int64(0)
	for i, c := range t.Channels {
		w := t.cum[i] - prev
		prev = t.cum[i]
		if w <= 0 || !accept(c) {
			continue
		}
		sum += w
		if rnd.Int64N(sum) < w {
			chosen = c
		}
	}
	if chosen != nil {
		return chosen
	}
	for _, c := range t.Channels { // weight 0 beside weighted ones: the last resort
		if accept(c) {
			return c
		}
	}
	return nil
}

type route struct{ group, model string }

// Snapshot is the routing state at one revision. It is immutable; a new one
// replaces it. Every method is safe for concurrent use.
type Snapshot struct {
	Revision Revision
	Epoch    string
	At       time.Time

	Channels map[int64]*Channel
	Groups   map[string]*Group
	Prices   map[string]*Price // built-in list with the rows put over it
	Options  *Options
	Rows     Rows // what it was built from

	routes map[route][]*Tier
	models map[string][]string // group -> sorted model names
	prices *priceIndex
}

// Rows are the replicated rows that a snapshot is made of.
type Rows struct {
	Channels map[int64]*Channel
	Groups   map[string]*Group
	Prices   map[string]*Price // rows only, without the built-in list
	Options  map[string]string // key -> value as stored
}

// NewSnapshot builds and validates a snapshot. A bad row is an error that names
// it: the caller keeps its last good snapshot. builtin is the shipped price list.
func NewSnapshot(rev Revision, epoch string, rows Rows, builtin map[string]*Price) (*Snapshot, error) {
	opts, err := ParseOptions(rows.Options)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Revision: rev, Epoch: epoch, At: time.Now(), Channels: rows.Channels, Groups: rows.Groups, Options: opts, Rows: rows,
		Prices: overlayPrices(rows.Prices, builtin), routes: map[route][]*Tier{}, models: map[string][]string{}}
	s.index()
	s.prices = newPriceIndex(s.Prices, s.models)
	return s, nil
}

func overlayPrices(rows, builtin map[string]*Price) map[string]*Price {
	out := make(map[string]*Price, len(builtin)+len(rows))
	for name, p := range builtin {
		out[name] = p
	}
	for name, row := range rows {
		var base Price
		if b := builtin[name]; b != nil {
			base = *b
		}
		p := row.Overlay(base)
		out[name] = &p
	}
	return out
}

func (s *Snapshot) index() {
	byRoute := map[route][]*Channel{}
	for _, c := range s.Channels {
		if !c.Enabled() {
			continue
		}
		for _, g := range c.Groups {
			for _, m := range c.Models {
				r := route{g, m}
				byRoute[r] = append(byRoute[r], c)
			}
		}
	}
	for r, list := range byRoute {
		s.routes[r] = tiers(list)
		s.models[r.group] = append(s.models[r.group], r.model)
	}
	for _, m := range s.models {
		slices.Sort(m)
	}
}

func tiers(list []*Channel) []*Tier {
	slices.SortFunc(list, func(a, b *Channel) int {
		if a.Priority != b.Priority {
			if a.Priority > b.Priority {
				return -1
			}
			return 1
		}
		return int(a.ID - b.ID)
	})
	list = slices.CompactFunc(list, func(a, b *Channel) bool { return a.ID == b.ID })
	var out []*Tier
	for _, c := range list {
		if len(out) == 0 || out[len(out)-1].Priority != c.Priority {
			out = append(out, &Tier{Priority: c.Priority})
		}
		t := out[len(out)-1]
		t.Channels = append(t.Channels, c)
	}
	for _, t := range out {
		t.weigh()
	}
	return out
}

// weigh follows New API: with no weights at all, every channel counts the same;
// otherwise a channel of weight 0 is only taken when no weighted one is left.
func (t *Tier) weigh() {
	var sum int64
	for _, c := range t.Channels {
		sum += c.Weight
	}
	t.cum = make([]int64, len(t.Channels))
	var acc int64
	for i, c := range t.Channels {
		if sum == 0 {
			acc++
		} else {
			acc += c.Weight
		}
		t.cum[i] = acc
	}
}

// Candidates returns the tiers of channels that serve model for group, highest
// priority first. The slice is shared: do not change it.
func (s *Snapshot) Candidates(group, model string) []*Tier { return s.routes[route{group, model}] }

// Models returns the sorted names of the models that group can reach. Shared.
func (s *Snapshot) Models(group string) []string { return s.models[group] }

// HasModel reports whether any enabled channel of any group lists model.
func (s *Snapshot) HasModel(model string) bool {
	for g := range s.models {
		if _, ok := s.routes[route{g, model}]; ok {
			return true
		}
	}
	return false
}

// GroupRatio is the price factor for a user of userGroup whose request is
// served by group using: GroupGroupRatio first, then GroupRatio, else 1.
// special reports that the first one counted.
func (s *Snapshot) GroupRatio(userGroup, using string) (r Ratio, special bool) {
	if g := s.Groups[userGroup]; g != nil {
		if r, ok := g.Ratios[using]; ok {
			return r, true
		}
	}
	if g := s.Groups[using]; g != nil && g.HasRatio {
		return g.Ratio, false
	}
	return RatioOne, false
}

// UsableGroups lists the groups that a user of userGroup may choose, with
// their descriptions: UserUsableGroups plus the user's own.
func (s *Snapshot) UsableGroups(userGroup string) map[string]string {
	out := map[string]string{}
	for name, g := range s.Groups {
		if g.Usable {
			out[name] = g.Description
		}
	}
	if _, ok := out[userGroup]; !ok && userGroup != "" {
		out[userGroup] = ""
		if g := s.Groups[userGroup]; g != nil {
			out[userGroup] = g.Description
		}
	}
	return out
}

// GroupUsable reports whether a user of userGroup may use group.
func (s *Snapshot) GroupUsable(userGroup, group string) bool {
	if group == userGroup {
		return true
	}
	g := s.Groups[group]
	return g != nil && g.Usable
}
