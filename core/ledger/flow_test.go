package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/store"
)

func TestReserveBounds(t *testing.T) {
	cases := []struct {
		name       string
		options    map[string]string
		edit       func(q *core.ReserveRequest)
		bound, min int64
		spent      int64
	}{
		{"prompt and output", nil, nil, 100, 10, 10},
		{"least prompt", map[string]string{"PreConsumedQuota": "500"}, nil, 590, 10, 10},
		{"long prompt", map[string]string{"PreConsumedQuota": "500"}, func(q *core.ReserveRequest) { q.Input = 800 }, 890, 800, 800},
		{"nothing known", nil, func(q *core.ReserveRequest) { q.Input, q.Output = 0, 0 }, 1, 1, 1},
		{"per call", nil, func(q *core.ReserveRequest) { q.Model = "dall-e-3" }, 20000, 20000, 20000},
		{"images by number, size, quality", nil, func(q *core.ReserveRequest) {
			q.Model, q.Operation, q.Choices, q.Size, q.Quality = "dall-e-3", llm.OpImageGenerations, 3, "1024x1792", "hd"
		}, 180000, 180000, 180000}, // 20000*2*1.5*3
		{"choices of a chat are one call", nil, func(q *core.ReserveRequest) { q.Model, q.Choices = "dall-e-3", 3 }, 20000, 20000, 20000},
		{"sound", map[string]string{"PreConsumedQuota": "0"}, func(q *core.ReserveRequest) { q.Model = "gpt-4o-audio-preview" }, 3800, 13, 13}, // 1.25*16*(10+90*2); prompt 1.25*10
		{"sound at a price of its own", nil, func(q *core.ReserveRequest) { q.Model = "gemini-2.0-flash" }, 22, 1, 1},                          // 0.05*90*4 + 10*0.7/1e6*500000
		{"output without end", nil, func(q *core.ReserveRequest) { q.Output = core.MaxQuota }, core.MaxQuota, 10, 10},
		{"unset model accepted by the user", nil, func(q *core.ReserveRequest) {
			q.Model, q.User.Setting = "nobody", `{"accept_unset_model_ratio_model":true}`
		}, 3750, 375, 375}, // 37.5*100
		{"unset model in self use", map[string]string{"SelfUseModeEnabled": "true", "PreConsumedQuota": "0"}, func(q *core.ReserveRequest) { q.Model = "gpt-4-nobody" }, 7125, 375, 375}, // 37.5*(10+90*2)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var lease store.Lease
			var min int64
			f := &fakeStore{reserve: func(_ context.Context, l store.Lease, m int64, token bool) (int64, error) {
				lease, min = l, m
				if !token || !l.TokenCharged {
					t.Error("the token was not charged")
				}
				return l.Granted, nil
			}}
			r := newRig(t, f, c.options)
			q := r.request(1)
			q.ChannelID = 5
			if c.edit != nil {
				c.edit(&q)
			}
			res, err := r.Reserve(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if lease.Granted != c.bound || min != c.min || lease.Spent != c.spent || res.Amount != c.bound {
				t.Fatalf("bound %d min %d spent %d amount %d", lease.Granted, min, lease.Spent, res.Amount)
			}
			if lease.Node != "n" || lease.Boot != "b" || lease.UserID != 1 || lease.TokenID != 7 || lease.ChannelID != 5 || res.ChannelID != 5 || lease.ID == "" || !json.Valid([]byte(lease.Detail)) {
				t.Fatalf("%+v", lease)
			}
			r.Refund(t.Context(), res, core.Outcome{})
		})
	}
}

func TestNoDatabaseForFreeRequestsAndBillingOff(t *testing.T) {
	f := &fakeStore{reserve: func(context.Context, store.Lease, int64, bool) (int64, error) {
		t.Error("reserved")
		return 0, errAway
	}}
	r := newRig(t, f, map[string]string{"GroupRatio": "{}"})
	r.snap = snapshot(t, core.Rows{Groups: map[string]*core.Group{"gift": {Name: "gift", HasRatio: true}, "default": {Name: "default", HasRatio: true, Ratio: core.RatioOne,
		Ratios: map[string]core.Ratio{"half": core.RatioOne / 2}}}})
	for name, edit := range map[string]func(q *core.ReserveRequest){
		"ratio 0": func(q *core.ReserveRequest) { q.Model = "omni-moderation-latest" },
		"group 0": func(q *core.ReserveRequest) { q.Model, q.Group = "gpt-4o", "gift" },
		"count":   func(q *core.ReserveRequest) { q.Model, q.Operation = "whatever", llm.OpGeminiCount },
	} {
		q := r.request(1)
		edit(&q)
		res, err := r.Reserve(t.Context(), q)
		if err != nil || res.ID != "" || !res.Free {
			t.Fatalf("%s: %v %+v", name, err, res)
		}
		if c := r.Settle(t.Context(), res, used(1000)); c.Quota != 0 {
			t.Fatalf("%s: cost %d", name, c.Quota)
		}
	}
	off := func(o *Options) {
		o.Config = func() config.Billing {
			return config.Billing{Mode: "off", LogFlushInterval: time.Second, LogBatch: 10, ReserveTimeout: time.Second}
		}
	}
	f.settle = func(context.Context, store.SettleRequest) (bool, error) { t.Error("settled"); return true, nil }
	r = newRig(t, f, nil, off)
	for model, want := range map[string]int64{"m": 30, "nobody": 0} {
		q := r.request(1)
		q.Model = model
		res, err := r.Reserve(t.Context(), q)
		if err != nil || res.ID != "" {
			t.Fatal(err)
		}
		if c := r.Settle(t.Context(), res, used(30)); c.Quota != want {
			t.Fatalf("%s: shown as %d", model, c.Quota)
		}
	}
}

func TestUnknownModelSaysWhereToSetIt(t *testing.T) {
	r := newRig(t, &fakeStore{}, nil)
	q := r.request(1)
	q.Model = "nobody"
	_, err := r.Reserve(t.Context(), q)
	var e *core.Error
	if !errors.As(err, &e) || e.Code != core.CodeModelPrice {
		t.Fatal(err)
	}
	for _, word := range []string{"nobody", "ModelRatio", "ModelPrice", "SelfUseModeEnabled"} {
		if !strings.Contains(e.Message, word) {
			t.Errorf("%q does not name %s", e.Message, word)
		}
	}
}

func TestProgressNotesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type note struct {
			spent  int64
			detail leaseDetail
		}
		var notes kept[note]
		f := &fakeStore{progress: func(_ context.Context, _ string, spent int64, detail string) error {
			notes.add(note{spent, decodeDetail(detail)})
			return nil
		}}
		r := newRig(t, f, nil)
		res, err := r.Reserve(t.Context(), r.request(1))
		if err != nil {
			t.Fatal(err)
		}
		res.ChannelID = 9
		for i := range int64(500) { // 5 s, 100 tokens a second
			r.Extend(res, llm.Usage{Input: 10, Output: i})
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if n := len(notes.all()); n != 4 {
			t.Fatalf("%d notes in 5 s", n)
		}
		r.Extend(res, llm.Usage{Input: 10, Output: 5000}) // 1k tokens do not wait for the second
		synctest.Wait()
		got := notes.all()
		last := got[len(got)-1]
		if len(got) != 5 || last.spent != 5010 || last.detail.Usage.Output != 5000 || last.detail.Channel != 9 || last.detail.Username != "u" ||
			*last.detail.Price.Ratio != core.RatioOne || !last.detail.ChargeToken {
			t.Fatalf("%d notes, last %+v", len(got), last)
		}
		r.Settle(t.Context(), res, used(1))
		r.Extend(res, llm.Usage{Output: 1e6})
		time.Sleep(5 * time.Second)
		if len(notes.all()) != 5 {
			t.Fatal("a note after the end")
		}
		r.stop()
	})
}

func TestLogRowsAreWrittenInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches kept[int]
		var contents kept[string]
		var away atomic.Bool
		f := &fakeStore{insert: func(_ context.Context, rows []core.UsageLog) error {
			if away.Load() {
				return errAway
			}
			for _, x := range rows {
				if x.Content == "bad" {
					return errors.New("too long")
				}
			}
			batches.add(len(rows))
			for _, x := range rows {
				contents.add(x.Content)
			}
			return nil
		}}
		r := newRig(t, f, nil, func(o *Options) { o.MaxLogs = 100 })
		add := func(n int, text string) {
			for i := range n {
				r.Append(core.UsageLog{Content: fmt.Sprint(text, i)})
			}
		}
		add(3, "a")
		time.Sleep(1100 * time.Millisecond) // the interval
		add(10, "b")
		synctest.Wait() // a full batch does not wait
		if fmt.Sprint(batches.all()) != "[3 10]" {
			t.Fatal(batches.all())
		}
		away.Store(true)
		add(10, "c") // the batch that fails is kept beside the ring
		synctest.Wait()
		add(150, "d")
		time.Sleep(20 * time.Second)
		away.Store(false)
		contents.reset()
		time.Sleep(20 * time.Second)
		if got := contents.all(); len(got) != 110 || got[0] != "c0" || got[10] != "d50" || got[109] != "d149" {
			t.Fatalf("%d rows: %v", len(got), got)
		}
		time.Sleep(2 * time.Minute)
		if n := r.out.count("rows=50"); n != 1 {
			t.Fatalf("%d words about 50 dropped rows", n)
		}
		contents.reset()
		r.Append(core.UsageLog{Content: "x"})
		r.Append(core.UsageLog{Content: "bad"})
		r.Append(core.UsageLog{Content: "y"})
		time.Sleep(2 * time.Second)
		if fmt.Sprint(contents.all()) != "[x y]" || r.logs.len() != 0 {
			t.Fatal(contents.all())
		}
		r.stop()
	})
}

func TestAppendDoesNotWaitForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{insert: func(ctx context.Context, _ []core.UsageLog) error { return hang(ctx) }}
		r := newRig(t, f, nil)
		start := time.Now()
		for range 1000 {
			r.Append(core.UsageLog{})
		}
		if took := time.Since(start); took != 0 {
			t.Fatalf("took %s", took)
		}
		r.stop()
	})
}

func TestRows(t *testing.T) {
	var written kept[core.UsageLog]
	f := &fakeStore{insert: func(_ context.Context, list []core.UsageLog) error { written.add(list...); return nil }}
	r := newRig(t, f, nil, func(o *Options) {
		o.ErrorLog = func() bool { return true }
		o.Now = func() time.Time { return time.UnixMilli(1700000000000) }
	})
	last := func() (core.UsageLog, map[string]any) {
		t.Helper()
		r.logPass(t.Context())
		rows := written.all()
		var other map[string]any
		x := rows[len(rows)-1]
		if err := json.Unmarshal([]byte(x.Other), &other); err != nil {
			t.Fatalf("%v: %s", err, x.Other)
		}
		return x, other
	}
	expect := func(got map[string]any, want string) {
		t.Helper()
		var w map[string]any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(w)
		if string(a) != string(b) {
			t.Errorf("other:\n got %s\nwant %s", a, b)
		}
	}
	reserve := func(model string, setting string) *core.Reservation {
		t.Helper()
		q := r.request(1)
		q.Model, q.User.Setting = model, setting
		res, err := r.Reserve(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	ch := &core.Channel{ID: 4, Name: "upstream", Type: 1}

	r.Settle(t.Context(), reserve("gpt-4o", ""), core.Outcome{Usage: llm.Usage{Input: 100, CacheRead: 20, Output: 30, Reasoning: 5}, Channel: ch, Sent: "gpt-4o-2024-08-06",
		Tried: []int64{2, 4}, Stream: true, FirstByte: 120 * time.Millisecond, Duration: 3 * time.Second, IP: "192.0.2.1", Path: "/v1/chat/completions", EndReason: "done"})
	x, other := last()
	if x.Quota != 288 || x.PromptTokens != 120 || x.CompletionTokens != 30 || x.ChannelID != 4 || x.TokenName != "k" || x.IP != "" || x.UseTime != 3*time.Second ||
		!x.Stream || x.Type != core.LogConsume || x.RequestID != "req" || x.Group != "default" || x.Content != "" { // 1.25*(100+10+120) = 287.5
		t.Errorf("%+v", x)
	}
	expect(other, `{"model_ratio":1.25,"group_ratio":1,"completion_ratio":4,"cache_tokens":20,"cache_ratio":0.5,"model_price":-1,"user_group_ratio":-1,"frt":120,
		"is_model_mapped":true,"upstream_model_name":"gpt-4o-2024-08-06","request_path":"/v1/chat/completions","reasoning_tokens":5,
		"stream_status":{"status":"ok","end_reason":"done"},"admin_info":{"use_channel":[2,4]}}`)

	r.Settle(t.Context(), reserve("claude-sonnet-4", `{"record_ip_log":true}`), core.Outcome{Usage: llm.Usage{Input: 10, CacheRead: 5, CacheWrite: 8, CacheWrite1h: 5, Output: 2,
		ClaudeStyle: true, Tools: []llm.ToolCalls{{Name: "web_search", Calls: 2}}}, Sent: "claude-sonnet-4", IP: "192.0.2.1", Estimated: true, Tried: []int64{4}, EndReason: "client_gone"})
	x, other = last()
	if x.IP != "192.0.2.1" || x.PromptTokens != 10 || x.Content != "web_search: 2 calls at 10 USD per 1000 = 10000" {
		t.Errorf("%+v", x)
	}
	expect(other, `{"model_ratio":1.5,"group_ratio":1,"completion_ratio":5,"cache_tokens":5,"cache_ratio":0.1,"model_price":-1,"user_group_ratio":-1,"frt":0,"claude":true,
		"cache_creation_tokens":13,"cache_creation_ratio":1.25,"cache_creation_tokens_5m":8,"cache_creation_ratio_5m":1.25,"cache_creation_tokens_1h":5,"cache_creation_ratio_1h":2,
		"tool_surcharges":[{"name":"web_search","calls":2,"price":10,"quota":10000}],"estimated":true,"admin_info":{"use_channel":[4],"local_count_tokens":true}}`)

	r.Settle(t.Context(), reserve("gpt-4o-audio-preview", ""), core.Outcome{Usage: llm.Usage{Input: 8, AudioInput: 10, AudioOutput: 5, Output: 2, ImageInput: 3}})
	x, other = last()
	if x.Quota != 424 || other["audio"] != true || other["audio_input"] != 10.0 || other["audio_ratio"] != 16.0 || other["audio_completion_ratio"] != 2.0 ||
		other["text_input"] != 11.0 || other["text_output"] != 2.0 || other["image"] != true || other["image_output"] != 3.0 { // 1.25*(8+3+160+160+8) = 423.75
		t.Errorf("%+v %v", x, other)
	}

	r.Settle(t.Context(), reserve("dall-e-3", ""), core.Outcome{})
	x, other = last()
	if x.Quota != 20000 || other["model_price"] != 0.04 || other["model_ratio"] != 0.0 || x.Content != "" {
		t.Errorf("%+v %v", x, other)
	}

	r.Settle(t.Context(), reserve("gpt-4o", ""), core.Outcome{})
	if x, _ = last(); x.Quota != 0 || x.Content != "no usage was reported, nothing was charged" {
		t.Errorf("%+v", x)
	}

	r.Refund(t.Context(), reserve("gpt-4o", ""), core.Outcome{Channel: ch, Tried: []int64{4}, Err: &core.Error{Code: core.CodeUpstreamStatus, Type: "server_error",
		Message: "upstream \xff answered 500", Err: errors.New("secret")}, Status: 502, Path: "/v1/x"})
	x, other = last()
	if x.Type != core.LogError || x.Content != "upstream \uFFFD answered 500" || x.Quota != 0 {
		t.Errorf("%+v", x)
	}
	expect(other, `{"error_type":"server_error","error_code":"bad_response_status_code","status_code":502,"channel_id":4,"channel_name":"upstream","channel_type":1,
		"request_path":"/v1/x","admin_info":{"use_channel":[4]}}`)

	n := len(written.all())
	r.Refund(t.Context(), reserve("gpt-4o", ""), core.Outcome{}) // no error: no row
	quiet := reserve("gpt-4o", "")
	quiet.Request.Snapshot = snapshot(t, core.Rows{Options: map[string]string{"LogConsumeEnabled": "false"}})
	r.Settle(t.Context(), quiet, used(5))
	r.logPass(t.Context())
	if more := len(written.all()) - n; more != 0 {
		t.Errorf("%d rows more", more)
	}
}

func BenchmarkReserveSettleInMemory(b *testing.B) {
	l := New(Options{Store: &fakeStore{}, NodeID: "n", Boot: "b", Config: func() config.Billing {
		return config.Billing{Mode: "direct", LogFlushInterval: time.Second, LogBatch: 1 << 30, ReserveTimeout: time.Second}
	}})
	r := &rig{Ledger: l, snap: snapshot(b, core.Rows{Prices: map[string]*core.Price{"m": {Model: "m", Ratio: ratio("1")}}})}
	q, o := r.request(1), used(100)
	b.ReportAllocs()
	for b.Loop() {
		res, err := l.Reserve(context.Background(), q)
		if err != nil {
			b.Fatal(err)
		}
		l.Settle(context.Background(), res, o)
	}
}

func BenchmarkOff(b *testing.B) {
	l := New(Options{Store: &fakeStore{}, NodeID: "n", Boot: "b", Config: func() config.Billing {
		return config.Billing{Mode: "off", LogFlushInterval: time.Second, LogBatch: 1 << 30, ReserveTimeout: time.Second}
	}})
	r := &rig{Ledger: l, snap: snapshot(b, core.Rows{Prices: map[string]*core.Price{"m": {Model: "m", Ratio: ratio("1")}}})}
	q, o := r.request(1), used(100)
	b.ReportAllocs()
	for b.Loop() {
		res, err := l.Reserve(context.Background(), q)
		if err != nil {
			b.Fatal(err)
		}
		l.Settle(context.Background(), res, o)
	}
}

// Whatever stands in a path or a name, the text of a row is valid JSON and says it.
func TestOtherIsJSON(t *testing.T) {
	for _, text := range []string{"/v1/x", `a"b\c`, "line\nend\x00", "日本", "\xff\xfe", "<&>\u2028", strings.Repeat("é", 300)} {
		f := facts{sent: text, path: text, tried: []int64{1, 2}, estimate: true, stream: true, end: text}
		var got struct {
			Upstream string       `json:"upstream_model_name"`
			Path     string       `json:"request_path"`
			Stream   streamStatus `json:"stream_status"`
			Admin    adminInfo    `json:"admin_info"`
		}
		if err := json.Unmarshal([]byte(f.other("m")), &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		// Bytes that are no text are one replacement each, or one for a run of them.
		plain := strings.ToValidUTF8(text, "\uFFFD")
		if got.Path != plain || strings.ToValidUTF8(got.Upstream, "") == "" || got.Admin.Counted != true || len(got.Admin.UseChannel) != 2 || plain == text && (got.Upstream != text || got.Stream.End != text) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// A queue that grew is written in larger batches.
func TestLogBatches(t *testing.T) {
	for waiting, want := range map[int]int{0: 0, 5: 5, 10: 10, 19: 10, 20: 20, 39: 39, 100: 40} {
		l := New(Options{Store: &fakeStore{}, Config: func() config.Billing { return config.Billing{LogBatch: 1 << 20} }})
		for range waiting {
			l.log(&logEntry{})
		}
		if got := len(l.logs.next(10)); got != want {
			t.Errorf("%d rows wait: a batch of %d, want %d", waiting, got, want)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	l := New(Options{Store: &fakeStore{}, NodeID: "n", Boot: "b", Config: func() config.Billing { return config.Billing{Mode: "off"} }})
	r := &rig{Ledger: l, snap: snapshot(b, core.Rows{Prices: map[string]*core.Price{"m": {Model: "m", Ratio: ratio("1")}}})}
	res, err := l.Reserve(context.Background(), r.request(1))
	if err != nil {
		b.Fatal(err)
	}
	o := used(100)
	o.Tried, o.Path = []int64{1}, "/v1/chat/completions"
	e := l.consumed(res, &o, 100)
	b.ReportAllocs()
	for b.Loop() {
		e.render()
	}
}
