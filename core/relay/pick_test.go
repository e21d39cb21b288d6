package relay

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

func TestRetryLeavesTheFailedChannelOut(t *testing.T) {
	for _, c := range []struct {
		name, fake string
		calls      int64
	}{
		{"500", `{"status":500}`, 2},
		{"503", `{"status":503}`, 2},
		{"429", `{"status":429}`, 2},
		{"429 with a long Retry-After", `{"status":429,"retry_after":"3600"}`, 1}, // the breaker knows
		{"429 with a short Retry-After", `{"status":429,"retry_after":"5"}`, 2},
		{"401", `{"status":401}`, 2},
		{"redirect", `{"redirect":"http://127.0.0.1:1/"}`, 2},
		{"connection closed", `{"close":true}`, 2},
		{"web page", `{"content_type":"text/html"}`, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			bad := r.upstream(1, c.fake, priority(10))
			good := r.upstream(2, "")
			began := time.Now()
			for range 2 {
				r.post("/v1/chat/completions", chatBody).want(200)
			}
			if n := bad.Stats().Calls; n != c.calls {
				t.Fatalf("the failing channel had %d calls", n)
			}
			if n := good.Stats().Calls; n != 2 {
				t.Fatalf("the other one had %d", n)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Fatalf("waited %v although another channel was there", took)
			}
			// One reservation over all attempts.
			if n := len(r.ledger.reserved); n != 2 {
				t.Fatalf("reserved %d times", n)
			}
			r.money(2, 0)
			if o := r.ledger.settled[0]; len(o.Tried) != 2 || o.Tried[0] != 1 || o.Channel.ID != 2 {
				t.Fatalf("%+v", o)
			}
		})
	}
}

func TestRetryDeadUpstream(t *testing.T) {
	r := newRig(t)
	r.channel(1, "http://127.0.0.1:1", priority(10))
	r.upstream(2, "")
	r.post("/v1/chat/completions", chatBody).want(200)
	r.money(1, 0)
}

func TestRetryTimes(t *testing.T) {
	for _, c := range []struct {
		times string
		calls int64
	}{{"0", 1}, {"2", 3}, {"9", 4}} {
		t.Run(c.times, func(t *testing.T) {
			r := newRig(t)
			r.rows.Options["RetryTimes"] = c.times
			var calls atomic.Int64
			for id := range int64(4) {
				r.handler(id+1, func(w http.ResponseWriter, _ *http.Request) {
					calls.Add(1)
					http.Error(w, "no", http.StatusInternalServerError)
				})
			}
			r.post("/v1/chat/completions", chatBody).want(500).has("bad_response_status_code")
			if n := calls.Load(); n != c.calls {
				t.Fatalf("%d calls", n)
			}
			r.money(0, 1)
		})
	}
}

func TestNoRetry(t *testing.T) {
	for _, c := range []struct {
		name, fake string
		status     int
	}{
		{"400", `{"status":400}`, 400},
		{"404", `{"status":404}`, 404},
		{"422", `{"status":422}`, 422},
		{"504", `{"status":504}`, 504},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.upstream(1, c.fake, priority(10))
			other := r.upstream(2, "")
			r.post("/v1/chat/completions", chatBody).want(c.status)
			if n := other.Stats().Calls; n != 0 {
				t.Fatalf("%d calls of the other channel", n)
			}
			r.money(0, 1)
		})
	}
}

func TestRetryStatusOption(t *testing.T) {
	r := newRig(t)
	r.rows.Options["AutomaticRetryStatusCodes"] = "418"
	r.upstream(1, `{"status":418}`, priority(10))
	r.upstream(2, "")
	r.post("/v1/chat/completions", chatBody).want(200)
}

func TestStatusCodeMapping(t *testing.T) {
	r := newRig(t)
	r.upstream(1, `{"status":400}`, priority(10), func(c *core.Channel) { c.StatusCodeMapping = `{"400":"500"}` })
	two := r.upstream(2, `{"status":429}`, func(c *core.Channel) { c.StatusCodeMapping = `{"429":"418"}` })
	r.post("/v1/chat/completions", chatBody).want(418)
	if n := two.Stats().Calls; n != 1 {
		t.Fatal("what is judged is the mapped status")
	}
	r = newRig(t)
	r.upstream(1, `{"status":401}`, func(c *core.Channel) { c.StatusCodeMapping = `{"401":"401"}` })
	r.post("/v1/chat/completions", chatBody).want(401)
}

// With no other channel left, one that asked for patience is waited for.
func TestRetryAfterIsHonoured(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, `{"status":429,"retry_after":"1","times":1,"id":"a"}`)
	began := time.Now()
	r.post("/v1/chat/completions", chatBody).want(200)
	if took := time.Since(began); took < time.Second || up.Stats().Calls != 2 {
		t.Fatalf("%v, %d calls", took, up.Stats().Calls)
	}
	r.money(1, 0)
}

func TestLongRetryAfterIsGivenBack(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, `{"status":429,"retry_after":"77"}`)
	p := r.post("/v1/chat/completions", chatBody).want(429)
	if p.Header.Get("Retry-After") != "77" || up.Stats().Calls != 1 {
		t.Fatal(p.Header, up.Stats())
	}
	r.money(0, 1)
}

func TestTiersAndFormats(t *testing.T) {
	r := newRig(t)
	claude := r.upstream(1, "", priority(10), ofType(14)) // does not take chat
	r.upstream(2, "", priority(5))
	low := r.upstream(3, "", priority(1))
	for range 20 {
		r.post("/v1/chat/completions", chatBody).want(200)
	}
	if claude.Stats().Calls != 0 || low.Stats().Calls != 0 {
		t.Fatal("a tier was left out")
	}
	delete(r.rows.Channels, 2)
	delete(r.rows.Channels, 3)
	r.rebuild()
	p := r.post("/v1/chat/completions", chatBody).want(400).has("convert_request_failed")
	if p.Header.Get("X-Should-Retry") == "true" {
		t.Fatal(p.Header)
	}
	r.post("/v1/chat/completions", strings.Replace(chatBody, `"m"`, `"unknown"`, 1)).want(503).has("model_not_found", "unknown")
	r.rows.Channels[9] = &core.Channel{ID: 9, Type: 9999, Status: core.ChannelEnabled, Models: []string{"odd"}, Groups: []string{"default"}, BaseURL: "http://127.0.0.1:1"}
	r.rebuild()
	r.post("/v1/chat/completions", strings.Replace(chatBody, `"m"`, `"odd"`, 1)).want(400).has("convert_request_failed")
	if n := len(r.ledger.open); n != 0 {
		t.Fatal("reserved")
	}
}

func autoRig(t *testing.T, cross bool) *rig {
	r := newRig(t)
	for _, g := range []string{"a", "b", "hidden"} {
		r.rows.Groups[g] = &core.Group{Name: g, Usable: g != "hidden", HasRatio: true, Ratio: core.RatioOne}
	}
	r.rows.Options["AutoGroups"] = `["hidden","none","a","b"]`
	tok := *r.tokens.keys[testKey].Token
	tok.Group, tok.CrossGroupRetry = core.GroupAuto, cross
	r.tokens.keys[testKey] = core.Credential{Token: &tok, User: r.tokens.keys[testKey].User}
	return r
}

func TestAutoGroup(t *testing.T) {
	r := autoRig(t, false)
	hidden := r.upstream(1, "", inGroups("hidden"))
	r.upstream(2, `{"status":500}`, inGroups("a"))
	b := r.upstream(3, "", inGroups("b"))
	r.post("/v1/chat/completions", chatBody).want(500)
	if hidden.Stats().Calls+b.Stats().Calls != 0 {
		t.Fatal("another group than the first was used")
	}
	if g := r.ledger.reserved[0].Group; g != "a" {
		t.Fatal(g)
	}
	r.money(0, 1)
}

func TestAutoGroupCrosses(t *testing.T) {
	r := autoRig(t, true)
	r.upstream(2, `{"status":500}`, inGroups("a"))
	r.upstream(3, "", inGroups("b"))
	r.post("/v1/chat/completions", chatBody).want(200)
	if n := len(r.ledger.reserved); n != 2 || r.ledger.reserved[0].Group != "a" || r.ledger.reserved[1].Group != "b" {
		t.Fatalf("%+v", r.ledger.reserved)
	}
	r.money(1, 1)
	if o := r.lastRefunded(); o.Err != nil {
		t.Fatal("giving back to take anew is no error", o.Err)
	}
}

func TestAutoGroupWithoutChannel(t *testing.T) {
	r := autoRig(t, false)
	r.upstream(1, "", inGroups("hidden"))
	r.post("/v1/chat/completions", chatBody).want(503).has("model_not_found")
}

func TestBreaker(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	var skew atomic.Int64
	r.now = func() time.Time { return now.Add(time.Duration(skew.Load())) }
	r.rows.Options["RetryTimes"] = "1"
	bad := r.upstream(1, `{"status":500,"times":6,"id":"x"}`, priority(10))
	good := r.upstream(2, "")
	for range 20 {
		r.post("/v1/chat/completions", chatBody).want(200)
	}
	if n := bad.Stats().Calls; n != 5 {
		t.Fatalf("the dead channel was tried %d times", n)
	}
	// After the cool-down one probe goes out; it fails and opens the breaker again.
	skew.Store(int64(11 * time.Second))
	for range 5 {
		r.post("/v1/chat/completions", chatBody).want(200)
	}
	if n := bad.Stats().Calls; n != 6 {
		t.Fatalf("%d calls after the first probe", n)
	}
	// The next probe succeeds and closes it.
	skew.Store(int64(22 * time.Second))
	calls := good.Stats().Calls
	for range 5 {
		r.post("/v1/chat/completions", chatBody).want(200)
	}
	if bad.Stats().Calls != 11 || good.Stats().Calls != calls {
		t.Fatal("the breaker did not close", bad.Stats(), good.Stats())
	}
	if r.relay.breakers.some.Load() != 0 {
		t.Fatal("entry left")
	}
}

// One caller's failing requests must not take a model away from the others.
func TestBreakerAllOpen(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, `{"status":500,"times":7,"id":"y"}`)
	for range 7 {
		r.post("/v1/chat/completions", chatBody).want(500)
	}
	r.post("/v1/chat/completions", chatBody).want(200)
	if n := up.Stats().Calls; n != 8 {
		t.Fatal(n)
	}
}

func TestBreakerForgets(t *testing.T) {
	r := newRig(t)
	for range 5 {
		r.channel(1, "http://127.0.0.1:1")
		r.post("/v1/chat/completions", chatBody).want(502).has("do_request_failed")
	}
	if ok, _, _ := r.relay.breakers.allow(r.rows.Channels[1], &r.cfg.Relay.Breaker, time.Now()); ok {
		t.Fatal("not open")
	}
	changed := *r.rows.Channels[1]
	changed.Rev++
	if ok, _, _ := r.relay.breakers.allow(&changed, &r.cfg.Relay.Breaker, time.Now()); !ok {
		t.Fatal("a changed channel starts anew")
	}
	delete(r.rows.Channels, 1)
	r.channel(2, "http://127.0.0.1:1")
	r.post("/v1/chat/completions", chatBody).want(502)
	if _, ok := r.relay.breakers.m[1]; ok || r.relay.breakers.some.Load() != 1 {
		t.Fatal("the entry of a channel that is gone stayed")
	}
}

func TestLongRetryAfterOpensBreaker(t *testing.T) {
	r := newRig(t)
	limited := r.upstream(1, `{"status":429,"retry_after":"3600"}`, priority(10))
	r.upstream(2, "")
	for range 5 {
		r.post("/v1/chat/completions", chatBody).want(200)
	}
	if n := limited.Stats().Calls; n != 1 {
		t.Fatal(n)
	}
}

func TestReservationKey(t *testing.T) {
	r := newRig(t)
	r.upstream(1, `{"status":500}`, priority(10))
	r.upstream(2, "", func(c *core.Channel) { c.ParamOverride = `{"max_tokens":77}` })
	r.post("/v1/chat/completions", chatWith(`"max_tokens":10,"n":2`)).want(200)
	q := r.ledger.reserved
	if len(q) != 2 || q[0].Output != 20 || q[1].Output != 154 || q[1].Model != "m" || q[1].RequestID != "req-test" {
		t.Fatalf("%+v", q)
	}
	r.money(1, 1)
}

func TestReserveRefused(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, "")
	r.ledger.OnReserve = func(core.ReserveRequest) error {
		return core.Errorf(core.CodeUserQuota, "The balance does not cover the request.")
	}
	r.post("/v1/chat/completions", chatBody).want(403).has("insufficient_user_quota")
	r.ledger.OnReserve = func(core.ReserveRequest) error {
		return &core.Error{Code: core.CodeStoreUnavailable, Message: "away", RetryAfter: time.Second}
	}
	if p := r.post("/v1/chat/completions", chatBody).want(503); p.Header.Get("Retry-After") != "1" {
		t.Fatal(p.Header)
	}
	if up.Stats().Calls != 0 {
		t.Fatal("upstream was called without a reservation")
	}
	r.money(0, 0)
}

// What answers 200 and nothing of worth is as dead as what does not answer.
func TestBreakerGarbage(t *testing.T) {
	for _, media := range []string{"text/html", "text/event-stream"} {
		t.Run(media, func(t *testing.T) {
			r := newRig(t)
			var calls atomic.Int64
			r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.Header().Set("Content-Type", media)
				w.WriteHeader(http.StatusOK)
			}, priority(9))
			r.upstream(2, "")
			for range 10 {
				r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200).has("[DONE]")
			}
			if n := calls.Load(); n != 5 {
				t.Fatalf("tried %d times", n)
			}
		})
	}
}

func TestModelFamilies(t *testing.T) {
	for model, want := range map[string]string{
		"gpt-4-gizmo-g-abc": "gpt-4-gizmo-*", "gpt-4o-gizmo-x": "gpt-4o-gizmo-*", "gpt-4o": "",
		"gemini-2.5-pro-preview-thinking-128": "gemini-2.5-pro-thinking-*", "gemini-2.5-flash-lite-thinking-1": "gemini-2.5-flash-lite-thinking-*",
		"gemini-2.5-pro": "", "gemini-2.5-pro-thinking": "",
	} {
		if got := family(model); got != want {
			t.Errorf("%s: %q", model, got)
		}
	}
	r := newRig(t)
	up := r.upstream(1, "", func(c *core.Channel) { c.Models = []string{"gpt-4-gizmo-*", "gpt-4-gizmo-own"} })
	tok := *r.tokens.keys[testKey].Token
	tok.LimitModels, tok.Models = true, []string{"gpt-4-gizmo-*"}
	r.tokens.keys[testKey] = core.Credential{Token: &tok, User: r.tokens.keys[testKey].User}
	r.post("/v1/chat/completions", strings.Replace(chatBody, `"m"`, `"gpt-4-gizmo-g-1"`, 1)).want(200)
	if got := string(up.Requests()[0].Body); !strings.Contains(got, `"gpt-4-gizmo-g-1"`) || r.ledger.reserved[0].Model != "gpt-4-gizmo-g-1" {
		t.Fatal(got, r.ledger.reserved[0].Model)
	}
	r.post("/v1/chat/completions", strings.Replace(chatBody, `"m"`, `"gpt-4-turbo"`, 1)).want(403)
}
