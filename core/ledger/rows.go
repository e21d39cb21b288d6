package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/store"
)

// facts are what the rest of a log row is made of. They hold no snapshot, so that
// rows that wait do not keep old ones alive.
type facts struct {
	price    core.Price
	group    core.Ratio
	special  bool
	free     bool
	terms    Terms
	usage    llm.Usage
	setting  string // the user's
	ip       string
	path     string
	sent     string
	channel  string
	kind     int // channel type
	tried    []int64
	first    time.Duration
	stream   bool
	end      string
	estimate bool
	recover  bool
	err      *core.Error
	status   int
}

// consumed is the row of a settled request; nil where the option says none.
func (l *Ledger) consumed(r *core.Reservation, o *core.Outcome, quota int64) *logEntry {
	if s := r.Request.Snapshot; s != nil && !s.Options.LogConsumeEnabled {
		return nil
	}
	e := l.entry(core.LogConsume, r, o)
	e.row.Quota = quota
	e.row.PromptTokens, e.row.CompletionTokens = o.Usage.Prompt(), o.Usage.Completion()
	return e
}

// failed is the row of a request that failed.
func (l *Ledger) failed(r *core.Reservation, o *core.Outcome) *logEntry {
	e := l.entry(core.LogError, r, o)
	e.facts.err, e.facts.status = o.Err, o.Status
	return e
}

func (l *Ledger) entry(typ core.LogType, r *core.Reservation, o *core.Outcome) *logEntry {
	q := &r.Request
	e := &logEntry{
		row: core.UsageLog{At: l.o.Now(), Type: typ, UserID: q.User.ID, Username: q.User.Username, Model: q.Model, Group: q.Group,
			UseTime: o.Duration, Stream: o.Stream, RequestID: q.RequestID},
		facts: &facts{price: r.Price, group: r.Group, special: r.Special, free: r.Free, terms: terms(r), usage: o.Usage, setting: q.User.Setting, ip: o.IP,
			path: o.Path, sent: o.Sent, tried: o.Tried, first: o.FirstByte, stream: o.Stream, end: o.EndReason, estimate: o.Estimated},
	}
	if q.Token != nil {
		e.row.TokenID, e.row.TokenName = q.Token.ID, q.Token.Name
	}
	if o.Channel != nil {
		e.row.ChannelID, e.facts.channel, e.facts.kind = o.Channel.ID, o.Channel.Name, o.Channel.Type
	}
	return e
}

// recovered is the row of a lease that an earlier boot left open.
func (l *Ledger) recovered(x *store.Lease, d *leaseDetail) *logEntry {
	e := &logEntry{
		row: core.UsageLog{At: l.o.Now(), Type: core.LogConsume, UserID: x.UserID, Username: d.Username, TokenID: x.TokenID, TokenName: d.TokenName,
			ChannelID: x.ChannelID, Model: x.Model, Group: d.Group, Quota: x.Spent, RequestID: x.RequestID},
		facts: &facts{price: d.price(x.Model), group: d.GroupRatio, special: d.Special, estimate: true, recover: true, sent: x.Model,
			terms: Terms{Model: x.Model}},
	}
	if d.Usage != nil {
		e.facts.usage = *d.Usage
		e.row.PromptTokens, e.row.CompletionTokens = d.Usage.Prompt(), d.Usage.Completion()
	}
	return e
}

// render fills in what the request did not wait for.
func (e *logEntry) render() core.UsageLog {
	row, f := e.row, e.facts
	if f == nil {
		return row
	}
	if f.ip != "" && userSetting(f.setting, "record_ip_log") {
		row.IP = f.ip
	}
	var other any
	if f.err != nil {
		row.Content = clean(f.err.Message)
		other = f.errorOther()
	} else {
		row.Content = f.content(row.Quota)
		other = f.other(row.Model)
	}
	if b, err := json.Marshal(other); err == nil {
		row.Other = string(b)
	}
	return row
}

// clean bounds a text that came from outside.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > 2000 {
		s = strings.ToValidUTF8(s[:2000], "")
	}
	return s
}

// other is New API's `other` of a consumption; users never see admin_info.
type other struct {
	ModelRatio      core.Ratio `json:"model_ratio"`
	GroupRatio      core.Ratio `json:"group_ratio"`
	CompletionRatio core.Ratio `json:"completion_ratio"`
	CacheTokens     int64      `json:"cache_tokens"`
	CacheRatio      core.Ratio `json:"cache_ratio"`
	ModelPrice      core.Ratio `json:"model_price"`      // -1 = by ratio
	UserGroupRatio  core.Ratio `json:"user_group_ratio"` // -1 = none
	FRT             int64      `json:"frt"`              // milliseconds to the first byte
	Mapped          bool       `json:"is_model_mapped,omitempty"`
	Upstream        string     `json:"upstream_model_name,omitempty"`
	Path            string     `json:"request_path,omitempty"`
	Reasoning       int64      `json:"reasoning_tokens,omitempty"`

	Claude        bool        `json:"claude,omitempty"`
	Creation      *int64      `json:"cache_creation_tokens,omitempty"`
	CreationRatio *core.Ratio `json:"cache_creation_ratio,omitempty"`
	Creation5m    *int64      `json:"cache_creation_tokens_5m,omitempty"`
	Ratio5m       *core.Ratio `json:"cache_creation_ratio_5m,omitempty"`
	Creation1h    *int64      `json:"cache_creation_tokens_1h,omitempty"`
	Ratio1h       *core.Ratio `json:"cache_creation_ratio_1h,omitempty"`

	Audio           bool        `json:"audio,omitempty"`
	AudioInput      int64       `json:"audio_input,omitempty"`
	AudioOutput     int64       `json:"audio_output,omitempty"`
	TextInput       int64       `json:"text_input,omitempty"`
	TextOutput      int64       `json:"text_output,omitempty"`
	AudioRatio      *core.Ratio `json:"audio_ratio,omitempty"`
	AudioCompletion *core.Ratio `json:"audio_completion_ratio,omitempty"`
	AudioPrice      *core.Ratio `json:"audio_input_price,omitempty"` // USD per 1M tokens

	Image      bool        `json:"image,omitempty"`
	ImageRatio *core.Ratio `json:"image_ratio,omitempty"`
	ImageInput int64       `json:"image_output,omitempty"` // New API's name of the image input tokens

	Tools     []toolSurcharge `json:"tool_surcharges,omitempty"`
	Estimated bool            `json:"estimated,omitempty"`
	Recovered bool            `json:"recovered,omitempty"`
	Stream    *streamStatus   `json:"stream_status,omitempty"`
	Admin     *adminInfo      `json:"admin_info,omitempty"`
}

type toolSurcharge struct {
	Name  string     `json:"name"`
	Calls int64      `json:"calls"`
	Price core.Ratio `json:"price"` // USD per 1,000 calls
	Quota int64      `json:"quota"`
}

type streamStatus struct {
	Status string `json:"status"`
	End    string `json:"end_reason"`
}

type adminInfo struct {
	UseChannel []int64 `json:"use_channel"`
	Counted    bool    `json:"local_count_tokens,omitempty"`
}

func orDefault(r *core.Ratio, def core.Ratio) core.Ratio {
	if r == nil {
		return def
	}
	return *r
}

func (f *facts) other(model string) *other {
	p, u := &f.price, &f.usage
	o := &other{ModelRatio: orDefault(p.Ratio, 0), GroupRatio: f.group, CompletionRatio: orDefault(p.Completion, defaultRatio),
		CacheTokens: u.CacheRead, CacheRatio: orDefault(p.Cache, defaultRatio), ModelPrice: -core.RatioOne, UserGroupRatio: -core.RatioOne,
		FRT: f.first.Milliseconds(), Path: clean(f.path), Reasoning: u.Reasoning, Estimated: f.estimate, Recovered: f.recover}
	if p.PerCall != nil {
		o.ModelPrice, o.ModelRatio = *p.PerCall, 0
	}
	if f.special {
		o.UserGroupRatio = f.group
	}
	if f.sent != "" && f.sent != model {
		o.Mapped, o.Upstream = true, f.sent
	}
	if u.ClaudeStyle || u.CacheWrite > 0 || u.CacheWrite1h > 0 {
		o.cacheWrites(p, u)
	}
	if u.AudioInput > 0 || u.AudioOutput > 0 {
		audio, completion := orDefault(p.Audio, defaultRatio), orDefault(p.AudioCompletion, defaultRatio)
		o.Audio, o.AudioInput, o.AudioOutput, o.AudioRatio, o.AudioCompletion, o.AudioPrice = true, u.AudioInput, u.AudioOutput, &audio, &completion, p.AudioInputUSD
		o.TextInput, o.TextOutput = u.Prompt()-u.AudioInput, u.Output
	}
	if u.ImageInput > 0 {
		r := orDefault(p.Image, defaultRatio)
		o.Image, o.ImageRatio, o.ImageInput = true, &r, u.ImageInput
	}
	o.Tools = f.surcharges()
	if f.stream && f.end != "" {
		o.Stream = &streamStatus{Status: "ok", End: f.end}
		if f.end != "done" {
			o.Stream.Status = "error"
		}
	}
	if len(f.tried) > 0 {
		o.Admin = &adminInfo{UseChannel: f.tried, Counted: f.estimate}
	}
	return o
}

func (o *other) cacheWrites(p *core.Price, u *llm.Usage) {
	create := orDefault(p.CreateCache, defaultCreateCache)
	hour := create/5*8 + create%5*8/5
	sum := u.CacheWrite + u.CacheWrite1h
	o.Claude = u.ClaudeStyle
	o.Creation, o.CreationRatio = &sum, &create
	if u.CacheWrite1h > 0 {
		o.Creation5m, o.Ratio5m, o.Creation1h, o.Ratio1h = &u.CacheWrite, &create, &u.CacheWrite1h, &hour
	}
}

// surcharges lists what tools cost, each rounded by itself; what is billed is
// rounded once.
func (f *facts) surcharges() []toolSurcharge {
	if f.free {
		return nil
	}
	var out []toolSurcharge
	var none core.Price
	for _, c := range f.usage.Tools {
		price := toolPrice(f.terms.ToolPrices, c.Name, f.terms.Model)
		if c.Calls <= 0 || price <= 0 {
			continue
		}
		q := Quote(&none, f.group, &llm.Usage{Tools: []llm.ToolCalls{c}}, f.terms)
		out = append(out, toolSurcharge{Name: c.Name, Calls: c.Calls, Price: price, Quota: q})
	}
	return out
}

// content says in words what the numbers do not.
func (f *facts) content(quota int64) string {
	var parts []string
	if f.recover {
		parts = append(parts, "the gateway ended during this request; billed by what is known of it")
	}
	if quota == 0 && !f.free && f.price.PerCall == nil && !usedTokens(&f.usage) && !usedTools(&f.usage) {
		parts = append(parts, "no usage was reported, nothing was charged")
	}
	for _, s := range f.surcharges() {
		parts = append(parts, fmt.Sprintf("%s: %d calls at %s USD per 1000 = %d", s.Name, s.Calls, s.Price, s.Quota))
	}
	return clean(strings.Join(parts, "; "))
}

type errorOther struct {
	Type        string     `json:"error_type,omitempty"`
	Code        core.Code  `json:"error_code"`
	Status      int        `json:"status_code"`
	ChannelID   int64      `json:"channel_id,omitempty"`
	ChannelName string     `json:"channel_name,omitempty"`
	ChannelType int        `json:"channel_type,omitempty"`
	Path        string     `json:"request_path,omitempty"`
	Mapped      bool       `json:"is_model_mapped,omitempty"`
	Upstream    string     `json:"upstream_model_name,omitempty"`
	Admin       *adminInfo `json:"admin_info,omitempty"`
}

func (f *facts) errorOther() *errorOther {
	o := &errorOther{Type: f.err.Type, Code: f.err.Code, Status: f.status, ChannelName: f.channel, ChannelType: f.kind, Path: clean(f.path)}
	if f.sent != "" && f.sent != f.terms.Model {
		o.Mapped, o.Upstream = true, f.sent
	}
	if n := len(f.tried); n > 0 {
		o.ChannelID = f.tried[n-1]
		o.Admin = &adminInfo{UseChannel: f.tried}
	}
	return o
}
