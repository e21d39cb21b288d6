package ledger

import (
	"encoding/json"
	"fmt"
	"strconv"
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
	if f.err != nil {
		row.Content = clean(f.err.Message)
		if b, err := json.Marshal(f.errorOther()); err == nil {
			row.Other = string(b)
		}
		return row
	}
	row.Content = f.content(row.Quota)
	row.Other = f.other(row.Model)
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

// other is New API's `other` of a consumption; users never see admin_info. It is
// written for every request, so by hand.
func (f *facts) other(model string) string {
	p, u := &f.price, &f.usage
	byRatio, perCall, userGroup := orDefault(p.Ratio, 0), -core.RatioOne, -core.RatioOne // -1 = none
	if p.PerCall != nil {
		byRatio, perCall = 0, *p.PerCall
	}
	if f.special {
		userGroup = f.group
	}
	var room [512]byte
	o := jsonObject{room[:0]}
	o.ratio("model_ratio", byRatio)
	o.ratio("group_ratio", f.group)
	o.ratio("completion_ratio", orDefault(p.Completion, defaultRatio))
	o.int("cache_tokens", u.CacheRead)
	o.ratio("cache_ratio", orDefault(p.Cache, defaultRatio))
	o.ratio("model_price", perCall)
	o.ratio("user_group_ratio", userGroup)
	o.int("frt", f.first.Milliseconds()) // to the first byte
	if f.sent != "" && f.sent != model {
		o.yes("is_model_mapped", true)
		o.text("upstream_model_name", f.sent)
	}
	if f.path != "" {
		o.text("request_path", clean(f.path))
	}
	if u.Reasoning > 0 {
		o.int("reasoning_tokens", u.Reasoning)
	}
	if u.ClaudeStyle || u.CacheWrite > 0 || u.CacheWrite1h > 0 {
		o.cacheWrites(p, u)
	}
	if u.AudioInput > 0 || u.AudioOutput > 0 {
		o.audio(p, u)
	}
	if u.ImageInput > 0 {
		o.yes("image", true)
		o.ratio("image_ratio", orDefault(p.Image, defaultRatio))
		o.int("image_output", u.ImageInput) // New API's name of the image input tokens
	}
	if tools := f.surcharges(); len(tools) > 0 {
		o.value("tool_surcharges", tools)
	}
	o.yes("estimated", f.estimate)
	o.yes("recovered", f.recover)
	if f.stream && f.end != "" {
		status := "ok"
		if f.end != "done" {
			status = "error"
		}
		o.value("stream_status", streamStatus{status, f.end})
	}
	if len(f.tried) > 0 {
		o.admin(f.tried, f.estimate)
	}
	return o.end()
}

func (o *jsonObject) cacheWrites(p *core.Price, u *llm.Usage) {
	create := orDefault(p.CreateCache, defaultCreateCache)
	o.yes("claude", u.ClaudeStyle)
	o.int("cache_creation_tokens", u.CacheWrite+u.CacheWrite1h)
	o.ratio("cache_creation_ratio", create)
	if u.CacheWrite1h > 0 {
		o.int("cache_creation_tokens_5m", u.CacheWrite)
		o.ratio("cache_creation_ratio_5m", create)
		o.int("cache_creation_tokens_1h", u.CacheWrite1h)
		o.ratio("cache_creation_ratio_1h", create/5*8+create%5*8/5)
	}
}

func (o *jsonObject) audio(p *core.Price, u *llm.Usage) {
	o.yes("audio", true)
	for _, n := range []struct {
		name   string
		tokens int64
	}{{"audio_input", u.AudioInput}, {"audio_output", u.AudioOutput}, {"text_input", u.Prompt() - u.AudioInput}, {"text_output", u.Output}} {
		if n.tokens != 0 {
			o.int(n.name, n.tokens)
		}
	}
	o.ratio("audio_ratio", orDefault(p.Audio, defaultRatio))
	o.ratio("audio_completion_ratio", orDefault(p.AudioCompletion, defaultRatio))
	if p.AudioInputUSD != nil {
		o.ratio("audio_input_price", *p.AudioInputUSD) // USD per 1M tokens
	}
}

// admin is adminInfo.
func (o *jsonObject) admin(tried []int64, counted bool) {
	inner := jsonObject{append(o.name("admin_info"), `{"use_channel":[`...)}
	for i, id := range tried {
		if i > 0 {
			inner.b = append(inner.b, ',')
		}
		inner.b = strconv.AppendInt(inner.b, id, 10)
	}
	inner.b = append(inner.b, ']')
	inner.yes("local_count_tokens", counted)
	o.b = append(inner.b, '}')
}

// jsonObject is a JSON object that is being written.
type jsonObject struct{ b []byte }

// name begins a member; names are written as they are.
func (o *jsonObject) name(name string) []byte {
	sep := byte(',')
	if len(o.b) == 0 {
		sep = '{'
	}
	return append(append(append(o.b, sep, '"'), name...), '"', ':')
}

func (o *jsonObject) ratio(name string, r core.Ratio) { o.b = r.Append(o.name(name)) }

func (o *jsonObject) int(name string, n int64) { o.b = strconv.AppendInt(o.name(name), n, 10) }

// yes is a flag that stands only when it is set.
func (o *jsonObject) yes(name string, set bool) {
	if set {
		o.b = append(o.name(name), "true"...)
	}
}

func (o *jsonObject) text(name, s string) {
	if strings.ContainsFunc(s, needsEscape) {
		o.value(name, s)
		return
	}
	o.b = append(append(append(o.name(name), '"'), s...), '"')
}

func needsEscape(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }

// value is a member for which encoding/json is good enough.
func (o *jsonObject) value(name string, v any) {
	if b, err := json.Marshal(v); err == nil {
		o.b = append(o.name(name), b...)
	}
}

func (o *jsonObject) end() string { return string(append(o.b, '}')) }

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
