package ledger

import (
	"math/bits"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// The built-in answers where a price says nothing.
const (
	defaultRatio       = core.RatioOne
	defaultCreateCache = core.RatioOne * 5 / 4
	oneHourFactor      = core.RatioOne * 8 / 5 // a cache write for one hour : for five minutes
	// UnsetRatio is the ratio of a model without a price, where such models are
	// let through: 75 USD per 1M tokens.
	UnsetRatio = core.RatioOne * 75 / 2
)

// Terms is what a quote depends on besides price, group factor and usage.
type Terms struct {
	Model        string // for tool prices by model
	QuotaPerUnit int64  // units of one USD; 0 = core.QuotaPerUSD
	ToolPrices   map[string]core.Ratio
	Calls        int64 // things made by one call, for prices per call; 0 = 1
	Size         string
	Quality      string
}

// Quote is what usage costs, in units: New API's formulas, exact to the last
// digit, rounded once, half away from zero, saturated at core.MaxQuota. It is
// never negative, and at least 1 where price, group factor and usage are not
// zero. A price per call does not depend on the usage. It does not allocate.
func Quote(p *core.Price, group core.Ratio, u *llm.Usage, t Terms) int64 {
	if group <= 0 {
		return 0
	}
	unit := t.QuotaPerUnit
	if unit <= 0 {
		unit = core.QuotaPerUSD
	}
	tools := usedTools(u)
	var sum u256 // units x 10^36
	priced := false
	if p.PerCall != nil {
		priced = *p.PerCall > 0
		sum.addPerCall(p, group, unit, t)
	} else {
		if !tools && !usedTokens(u) {
			return 0
		}
		m := atLeastZero(p.Ratio, 0)
		priced = m > 0
		sum.addTokens(p, u)
		sum.mul(uint64(m))
		sum.mul(uint64(group))
		if p.AudioInputUSD != nil {
			var audio u256 // USD per 1M tokens: 10^18 for the two ratios, 10^12 = 10^18 / 10^6 for the rest
			audio.set(tokens(u.AudioInput), uint64(max(*p.AudioInputUSD, 0)))
			audio.mul(uint64(group))
			audio.mul(uint64(unit))
			audio.mul(1e12)
			sum.add(&audio)
		}
	}
	if tools {
		for _, c := range u.Tools {
			sum.addTool(c, t, group, unit)
		}
	}
	n := sum.round36()
	if n <= 0 && priced {
		return 1
	}
	return n
}

// addTokens adds tokens x ratios at scale 10^18.
func (x *u256) addTokens(p *core.Price, u *llm.Usage) {
	one := uint64(core.RatioOne)
	create := atLeastZero(p.CreateCache, defaultCreateCache)
	x.addTerm(u.Input, one, one)
	x.addTerm(u.CacheRead, atLeastZero(p.Cache, defaultRatio), one)
	x.addTerm(u.CacheWrite, create, one)
	x.addTerm(u.CacheWrite1h, create, uint64(oneHourFactor))
	x.addTerm(u.ImageInput, atLeastZero(p.Image, defaultRatio), one)
	x.addTerm(u.Output, atLeastZero(p.Completion, defaultRatio), one)
	if u.AudioInput > 0 || u.AudioOutput > 0 {
		audio := atLeastZero(p.Audio, defaultRatio)
		if p.AudioInputUSD == nil {
			x.addTerm(u.AudioInput, audio, one)
		}
		x.addTerm(u.AudioOutput, audio, atLeastZero(p.AudioCompletion, defaultRatio))
	}
}

// addTerm adds n*a*b; no factor has more than 63 bits, so there is no overflow.
func (x *u256) addTerm(n int64, a, b uint64) {
	if n <= 0 {
		return
	}
	var y u256
	y.set(uint64(n), a)
	y.mul(b)
	x.add(&y)
}

// addPerCall adds price x group x size x quality x calls x unit at scale 10^36.
func (x *u256) addPerCall(p *core.Price, group core.Ratio, unit int64, t Terms) {
	size, quality := imageFactors(p, t.Size, t.Quality)
	x.set(uint64(max(*p.PerCall, 0)), uint64(group))
	x.mul(uint64(size))
	x.mul(uint64(quality))
	x.mul(uint64(unit))
	x.mul(uint64(max(t.Calls, 1)))
}

func imageFactors(p *core.Price, size, quality string) (core.Ratio, core.Ratio) {
	fs, fq := core.RatioOne, core.RatioOne
	if p.Sizes != nil {
		if f, ok := p.Sizes[size]; ok {
			fs = f
		}
	}
	if p.Qualities != nil && quality != "" {
		if f, ok := p.Qualities[quality+" "+size]; ok {
			fq = f
		} else if f, ok := p.Qualities[quality]; ok {
			fq = f
		}
	}
	return fs, fq
}

// addTool adds price/1000 x calls x group x unit at scale 10^36: 10^18 of the
// two ratios, 10^15 = 10^18 / 1000 for the rest.
func (x *u256) addTool(c llm.ToolCalls, t Terms, group core.Ratio, unit int64) {
	price := toolPrice(t.ToolPrices, c.Name, t.Model)
	if price <= 0 || c.Calls <= 0 {
		return
	}
	var y u256
	y.set(uint64(price), uint64(c.Calls))
	y.mul(uint64(group))
	y.mul(uint64(unit))
	y.mul(1e15)
	x.add(&y)
}

// toolPrice finds the price of 1,000 calls: the longest key tool:prefix* or
// tool:model that fits the model, else the key tool, else 0.
func toolPrice(prices map[string]core.Ratio, tool, model string) core.Ratio {
	price := prices[tool]
	best := -1
	for key, p := range prices {
		name, pattern, ok := strings.Cut(key, ":")
		if !ok || name != tool || len(pattern) <= best {
			continue
		}
		prefix, isPrefix := strings.CutSuffix(pattern, "*")
		if pattern == model || (isPrefix && strings.HasPrefix(model, prefix)) {
			price, best = p, len(pattern)
		}
	}
	return price
}

func usedTools(u *llm.Usage) bool {
	for i := range u.Tools {
		if u.Tools[i].Calls > 0 {
			return true
		}
	}
	return false
}

func usedTokens(u *llm.Usage) bool {
	return u.Input > 0 || u.CacheRead > 0 || u.CacheWrite > 0 || u.CacheWrite1h > 0 || u.ImageInput > 0 || u.AudioInput > 0 ||
		u.Output > 0 || u.AudioOutput > 0
}

func tokens(n int64) uint64 { return uint64(max(n, 0)) }

func atLeastZero(r *core.Ratio, def core.Ratio) uint64 {
	if r == nil {
		return uint64(def)
	}
	return uint64(max(*r, 0))
}

// u256 is an unsigned number of 256 bits, lowest word first, that stays at its
// limit once it overflowed. With 63-bit factors at most, a sum over 2^256 is far
// above core.MaxQuota x 10^36, so a saturated sum gives a saturated quote.
type u256 struct {
	w    [4]uint64
	over bool
}

func (x *u256) set(a, b uint64) {
	*x = u256{}
	x.w[1], x.w[0] = bits.Mul64(a, b)
}

func (x *u256) mul(y uint64) {
	var carry uint64
	for i, w := range x.w {
		hi, lo := bits.Mul64(w, y)
		var c uint64
		x.w[i], c = bits.Add64(lo, carry, 0)
		carry = hi + c
	}
	if y == 0 {
		x.over = false
	} else if carry != 0 {
		x.over = true
	}
}

func (x *u256) add(y *u256) {
	var c uint64
	for i := range x.w {
		x.w[i], c = bits.Add64(x.w[i], y.w[i], c)
	}
	x.over = x.over || y.over || c != 0
}

// round36 is x / 10^36, half up, saturated at core.MaxQuota.
func (x *u256) round36() int64 {
	var half u256
	half.set(5e17, 1e18)
	x.add(&half)
	if x.over {
		return core.MaxQuota
	}
	for range 2 {
		var rem uint64
		for i := 3; i >= 0; i-- {
			x.w[i], rem = bits.Div64(rem, x.w[i], 1e18)
		}
	}
	if x.w[1]|x.w[2]|x.w[3] != 0 || x.w[0] > core.MaxQuota {
		return core.MaxQuota
	}
	return int64(x.w[0])
}
