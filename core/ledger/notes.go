package ledger

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

const (
	noteEvery  = time.Second
	noteTokens = 1000
)

// leaseDetail is what a crash must know to settle a lease and log it.
type leaseDetail struct {
	Username    string      `json:"user,omitempty"`
	TokenName   string      `json:"token,omitempty"`
	ChargeToken bool        `json:"charge_token,omitempty"`
	Group       string      `json:"group,omitempty"`
	GroupRatio  core.Ratio  `json:"group_ratio"`
	Special     bool        `json:"special,omitempty"`
	Channel     int64       `json:"channel,omitempty"`
	Price       detailPrice `json:"price"`
	Usage       *llm.Usage  `json:"usage,omitempty"` // as far as the last note
}

// detailPrice is the price that was fixed at the reservation.
type detailPrice struct {
	Ratio           *core.Ratio `json:"ratio,omitempty"`
	Completion      *core.Ratio `json:"completion,omitempty"`
	Cache           *core.Ratio `json:"cache,omitempty"`
	CreateCache     *core.Ratio `json:"create_cache,omitempty"`
	Image           *core.Ratio `json:"image,omitempty"`
	Audio           *core.Ratio `json:"audio,omitempty"`
	AudioCompletion *core.Ratio `json:"audio_completion,omitempty"`
	AudioInputUSD   *core.Ratio `json:"audio_input_usd,omitempty"`
	PerCall         *core.Ratio `json:"per_call,omitempty"`
}

func newDetail(r *core.Reservation) leaseDetail {
	q, p := &r.Request, &r.Price
	d := leaseDetail{Username: q.User.Username, ChargeToken: r.TokenHas, Group: q.Group, GroupRatio: r.Group, Special: r.Special, Channel: r.ChannelID,
		Price: detailPrice{Ratio: p.Ratio, Completion: p.Completion, Cache: p.Cache, CreateCache: p.CreateCache, Image: p.Image, Audio: p.Audio,
			AudioCompletion: p.AudioCompletion, AudioInputUSD: p.AudioInputUSD, PerCall: p.PerCall}}
	if q.Token != nil {
		d.TokenName = q.Token.Name
	}
	return d
}

func (d leaseDetail) encode(u *llm.Usage) string {
	d.Usage = u
	b, err := json.Marshal(d)
	if err != nil { // texts and numbers always encode
		return "{}"
	}
	return string(b)
}

// decodeDetail reads what encode wrote; what does not decode is left out.
func decodeDetail(text string) (d leaseDetail) {
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return leaseDetail{}
	}
	return d
}

func (d *leaseDetail) price(model string) core.Price {
	p := d.Price
	return core.Price{Model: model, Ratio: p.Ratio, Completion: p.Completion, Cache: p.Cache, CreateCache: p.CreateCache, Image: p.Image, Audio: p.Audio,
		AudioCompletion: p.AudioCompletion, AudioInputUSD: p.AudioInputUSD, PerCall: p.PerCall}
}

// noteBook holds the newest progress note of each lease until it is written.
type noteBook struct {
	mu   sync.Mutex
	open map[string]*note
	wake chan struct{}
}

type note struct {
	state  *state
	spent  int64
	usage  llm.Usage
	detail leaseDetail
}

func (b *noteBook) init() {
	b.open = map[string]*note{}
	b.wake = make(chan struct{}, 1)
}

func (b *noteBook) take() map[string]*note {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.open
	if len(out) > 0 {
		b.open = map[string]*note{}
	}
	return out
}

// Extend implements core.Ledger. At most one note a second, or one for 1,000
// tokens, leaves it.
func (l *Ledger) Extend(r *core.Reservation, so llm.Usage) {
	if r == nil || r.ID == "" {
		return
	}
	st := stateOf(r)
	if st.detail == nil {
		return
	}
	now, total := l.o.Now(), so.Total()
	st.mu.Lock()
	due := !st.ended && (total-st.tokens >= noteTokens || now.Sub(st.noted) >= noteEvery) && total != st.tokens
	if due {
		st.noted, st.tokens = now, total
	}
	st.mu.Unlock()
	if !due {
		return
	}
	so.Tools = slices.Clone(so.Tools)
	n := &note{state: st, spent: max(l.quote(r, &so), st.floor), usage: so, detail: *st.detail}
	n.detail.Channel = r.ChannelID
	l.notes.mu.Lock()
	l.notes.open[r.ID] = n
	l.notes.mu.Unlock()
	select {
	case l.notes.wake <- struct{}{}:
	default:
	}
}

func (l *Ledger) runNotes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.notes.wake:
		}
		if !l.notePass(ctx) && !sleep(ctx, noteEvery) { // the next note says it all again
			return
		}
	}
}

func (l *Ledger) notePass(ctx context.Context) bool {
	for id, n := range l.notes.take() {
		n.state.mu.Lock()
		ended := n.state.ended
		n.state.mu.Unlock()
		if ended {
			continue
		}
		tctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
		err := l.o.Store.Progress(tctx, id, n.spent, n.detail.encode(&n.usage))
		cancel()
		if err != nil {
			l.o.Logger.DebugContext(ctx, "progress note not written", "lease", id, "error", err)
			return false
		}
	}
	return true
}
