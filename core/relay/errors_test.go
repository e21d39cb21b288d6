package relay

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

var unaryForms = []form{
	{"openai", "/v1/chat/completions", chatBody, 1, "", `{"error":{"message":"`},
	{"claude", "/v1/messages", `{"model":"m","max_tokens":99,"messages":[{"role":"user","content":"hi"}]}`, 14, "", `{"type":"error","error":{"type":"`},
	{"responses", "/v1/responses", `{"model":"m","input":"hi"}`, 1, "", `{"error":{"message":"`},
	{"gemini", "/v1beta/models/m:generateContent", `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`, 24, "", `{"error":{"code":`},
}

// Every failure has the shape of the caller's format and the request id, with and
// without a stream.
func TestErrorsInTheCallersFormat(t *testing.T) {
	for _, c := range []struct {
		name, fake string
		set        func(*rig, *core.Channel)
		change     []func(*http.Request)
		status     int
		calls      int64
	}{
		{"no key", "", nil, []func(*http.Request){bareAuth("")}, 401, 0},
		{"unknown key", "", nil, []func(*http.Request){bareAuth("Bearer sk-x")}, 401, 0},
		{"no channel", "", func(_ *rig, c *core.Channel) { c.Models = []string{"other"} }, nil, 503, 0},
		{"wrong format", "", func(_ *rig, c *core.Channel) { c.Type = 38 }, nil, 400, 0},
		{"channel without address", "", func(_ *rig, c *core.Channel) { c.BaseURL = "ftp://x" }, nil, 502, 0},
		{"address not allowed", "", func(_ *rig, c *core.Channel) { c.BaseURL = "http://169.254.169.254" }, nil, 502, 0},
		{"dead", "", func(_ *rig, c *core.Channel) { c.BaseURL = "http://127.0.0.1:1" }, nil, 502, 0},
		{"400", `{"status":400}`, nil, nil, 400, 1},
		{"401", `{"status":401}`, nil, nil, 502, 1},
		{"403", `{"status":403}`, nil, nil, 502, 1},
		{"404", `{"status":404}`, nil, nil, 404, 1},
		{"429", `{"status":429,"retry_after":"99"}`, nil, nil, 429, 1},
		{"500", `{"status":500}`, nil, nil, 500, 1},
		{"529", `{"status":529}`, nil, nil, 529, 1},
		{"redirect", `{"redirect":"https://elsewhere.example/x"}`, nil, nil, 502, 1},
		{"body of no format", `{"status":500,"error_body":"<html>secret host</html>"}`, nil, nil, 500, 1},
		{"web page", `{"content_type":"text/html"}`, nil, nil, 502, 1},
		{"encoded", `{"gzip_bomb":true}`, nil, nil, 502, 1},
		{"garbage", `{"garbage":true}`, nil, nil, 502, 1},
		{"closed", `{"close":true}`, nil, nil, 502, 1},
		{"quota", "", func(r *rig, _ *core.Channel) {
			r.ledger.OnReserve = func(core.ReserveRequest) error { return core.Errorf(core.CodeTokenQuota, "no balance") }
		}, nil, 403, 0},
		{"store away", "", func(r *rig, _ *core.Channel) {
			r.ledger.OnReserve = func(core.ReserveRequest) error {
				return &core.Error{Code: core.CodeStoreUnavailable, Message: "away", RetryAfter: time.Second}
			}
		}, nil, 503, 0},
	} {
		for _, list := range [][]form{unaryForms, streamForms} {
			for _, f := range list {
				name := f.name
				if strings.Contains(f.body, "stream") || strings.Contains(f.path, "stream") {
					name += " stream"
				}
				t.Run(c.name+" "+name, func(t *testing.T) {
					r := newRig(t)
					up := r.upstream(1, c.fake, ofType(f.channel), func(ch *core.Channel) {
						if c.set != nil {
							c.set(r, ch)
						}
					})
					p := r.post(f.path, f.body, c.change...).want(c.status)
					if f.name == "gemini" || f.name == "claude" {
						p.has(map[string]string{"gemini": `{"error":{"code":`, "claude": `{"type":"error","error":{`}[f.name])
					} else {
						p.has(`{"error":{"message":`, `"type":`, `"param":`, `"code":`)
					}
					p.has("req-test").lacks("127.0.0.1", "169.254", "elsewhere.example", "secret host", "sk-upstreamsecret")
					if !strings.HasPrefix(p.Header.Get("Content-Type"), "application/json") {
						t.Fatal(p.Header)
					}
					if (c.status == 429 || c.status == 503) && c.name != "no channel" && p.Header.Get("Retry-After") == "" {
						t.Fatal("no Retry-After")
					}
					if up.Stats().Calls != c.calls {
						t.Fatal(up.Stats())
					}
					p.json()
					if n := len(r.ledger.settled); n != 0 {
						t.Fatal("settled")
					}
					r.money(0, len(r.ledger.reserved))
				})
			}
		}
	}
}

func TestUpstreamMessage(t *testing.T) {
	r := newRig(t)
	r.upstream(1, `{"status":400,"error_body":{"error":{"message":"This model's limit is 8192 tokens. Key sk-upstreamsecret at https://api.vendor.example/v1 (10.1.2.3:8080, fe80::1)","type":"invalid_request_error","code":"context_length_exceeded"}}}`)
	p := r.post("/v1/chat/completions", chatBody).want(400)
	p.has("limit is 8192 tokens", "context_length_exceeded", "invalid_request_error", "req-test")
	p.lacks("upstreamsecret", "vendor.example", "10.1.2.3", "fe80")
	if o := r.lastRefunded(); o.Err == nil || o.Status != 400 || o.EndReason != "upstream_error" {
		t.Fatalf("%+v", o)
	}
	// The key's own 401 is not the client's.
	r.upstream(1, `{"status":401,"error_body":{"error":{"message":"Incorrect API key provided: sk-upst****cret","type":"invalid_request_error","code":"invalid_api_key"}}}`)
	r.post("/v1/chat/completions", chatBody).want(502).has("bad_response_status_code", "not at fault").lacks("invalid_api_key", "Incorrect")
}

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"nothing to hide, 3.5 of 4.0 tokens": "nothing to hide, 3.5 of 4.0 tokens",
		"see https://x.example/a?b=c.":       "see [url]",
		"dial tcp 10.0.0.1:443: refused":     "dial tcp [address]: refused",
		"at [2001:db8::1]:443 now":           "at [address] now",
		"time 12:34:56 stays":                "time 12:34:56 stays",
		"key sk-proj-abc123def456 bad":       "key [key] bad",
		"key AIzaSyA1234567890 bad":          "key [key] bad",
		"host api.openai.com down":           "host [host] down",
		"organization org-AbCdEf123456 over": "organization [key] over",
		"model gpt-4o-mini-2024-07-18":       "model gpt-4o-mini-2024-07-18",
		"model claude-3.5-sonnet":            "model claude-3.5-sonnet",
		"max_tokens: 5 > 4":                  "max_tokens: 5 > 4",
		"own topsecret1 and second22":        "own [key] and [key]",
		"bell\x07 and\nline":                 "bell and\nline",
	} {
		if got := mask(in, "topsecret1\nsecond22\nx"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := mask(strings.Repeat("é", 4000), ""); len(got) > maxMessage+3 {
		t.Error(len(got))
	}
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "3", 3 * time.Second},
		{"Retry-After", "0.5", 500 * time.Millisecond},
		{"Retry-After", "-1", 0},
		{"Retry-After", "NaN", 0},
		{"Retry-After", "1e300", 0},
		{"Retry-After", "soon", 0},
		{"Retry-After", "Thu, 01 Jan 2026 00:01:00 GMT", time.Minute},
		{"Retry-After", "Wed, 31 Dec 2025 00:00:00 GMT", 0},
		{"Retry-After-Ms", "250", 250 * time.Millisecond},
	} {
		if got := retryAfter(http.Header{c.name: {c.value}}, now); got != c.want {
			t.Errorf("%s: %s: %v, want %v", c.name, c.value, got, c.want)
		}
	}
}

func TestShouldRetry(t *testing.T) {
	r := newRig(t)
	if p := r.post("/v1/chat/completions", chatBody).want(503); p.Header.Get("X-Should-Retry") != "false" || p.Header.Get("Retry-After") != "" {
		t.Fatal("no channel: trying again is in vain", p.Header)
	}
	r.channel(1, "http://127.0.0.1:1")
	if p := r.post("/v1/chat/completions", chatBody).want(502); p.Header.Get("X-Should-Retry") != "true" {
		t.Fatal(p.Header)
	}
}

func TestResponseHeaders(t *testing.T) {
	r := newRig(t)
	r.upstream(1, `{"headers":{"Set-Cookie":"a=b","X-Ratelimit-Remaining-Requests":"7","Server":"vendor","Openai-Processing-Ms":"12","X-Request-Id":"up-1","Connection":"x-hop","X-Hop":"1","Cf-Ray":"1","Openai-Organization":"org-secret"}}`)
	for _, body := range []string{chatBody, chatWith(`"stream":true`)} {
		h := r.post("/v1/chat/completions", body).want(200).Header
		for _, name := range []string{"Set-Cookie", "X-Ratelimit-Remaining-Requests", "Server", "X-Hop", "Cf-Ray", "Openai-Organization"} {
			if h.Get(name) != "" {
				t.Errorf("%s passed", name)
			}
		}
		if h.Get("Openai-Processing-Ms") != "12" || h.Get("X-Upstream-Request-Id") != "up-1" || h.Get("X-Request-Id") != "" {
			t.Error(h)
		}
	}
}

func TestRequestHeaders(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, "", ofType(14))
	r.post(unaryForms[1].path+"?beta=true&key=sk-abc", unaryForms[1].body, header("Anthropic-Beta", "x-1"), header("Anthropic-Version", "2023-06-01"), header("Cookie", "a=b"), header("X-Forwarded-For", "1.2.3.4")).want(200)
	q := up.Requests()[0]
	if q.Header.Get("Anthropic-Beta") != "x-1" || q.Header.Get("X-Api-Key") != "sk-upstreamsecret" || q.Header.Get("Authorization") != "" ||
		q.Header.Get("Cookie") != "" || q.Header.Get("X-Forwarded-For") != "" || strings.Contains(q.URI, "key=") || !strings.Contains(q.URI, "beta=true") {
		t.Fatalf("%+v", q)
	}
}

func TestPanicIsAnsweredAndRefunded(t *testing.T) {
	r := newRig(t)
	r.upstream(1, "")
	r.ledger.OnReserve = func(core.ReserveRequest) error { panic("boom") }
	r.post("/v1/chat/completions", chatBody).want(500).has("internal_error").lacks("boom")
	r.ledger.OnReserve = nil
	r.relay.o.Transport = nil
	r.post("/v1/chat/completions", chatBody).want(500)
	r.money(0, 1)
	if log := r.logs.String(); !strings.Contains(log, "boom") || !strings.Contains(log, `"end":"panic"`) {
		t.Fatal(log)
	}
}

// A success is worth a line to who debugs, a client's fault is told, and a fault
// of the gateway or an upstream is a warning.
func TestLogLine(t *testing.T) {
	for _, c := range []struct {
		name, fake, body string
		change           func(*http.Request)
		level            string
	}{
		{"done", "", chatBody, nil, "DEBUG"},
		{"done stream", "", chatWith(`"stream":true`), nil, "DEBUG"},
		{"bad key", "", chatBody, bareAuth("Bearer sk-wrong"), "INFO"},
		{"bad body", "", "{", nil, "INFO"},
		{"unknown model", "", strings.Replace(chatBody, `"m"`, `"x"`, 1), nil, "INFO"},
		{"upstream calls it bad", `{"status":400}`, chatBody, nil, "INFO"},
		{"upstream limits us", `{"status":429}`, chatBody, nil, "WARN"},
		{"upstream fails", `{"status":500}`, chatBody, nil, "WARN"},
		{"upstream refuses our key", `{"status":401}`, chatBody, nil, "WARN"},
		{"upstream cuts", `{"cut_after_chunks":2}`, chatWith(`"stream":true`), nil, "WARN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.upstream(1, c.fake)
			change := []func(*http.Request){}
			if c.change != nil {
				change = append(change, c.change)
			}
			r.post("/v1/chat/completions", strings.Replace(c.body, "hi", "my secret prompt", 1), change...)
			eventually(t, func() error {
				if !strings.Contains(r.logs.String(), `"msg":"relayed"`) {
					return errors.New("no line")
				}
				return nil
			})
			log := r.logs.String()
			if strings.Count(log, `"relayed"`) != 1 || strings.Contains(log, "secret") || !strings.Contains(log, `"request_id":"req-test"`) || !strings.Contains(log, `"status":`) {
				t.Fatal(log)
			}
			if !strings.Contains(log, `"level":"`+c.level+`","msg":"relayed"`) {
				t.Fatal(log)
			}
		})
	}
}

func TestMetricLabelsAreBounded(t *testing.T) {
	r := newRig(t)
	r.upstream(1, "")
	for _, m := range []string{"m", "made-up-1", "made-up-2"} {
		r.post("/v1/chat/completions", strings.Replace(chatBody, `"m"`, `"`+m+`"`, 1))
	}
	r.post("/v1/chat/completions", strings.Replace(chatBody, `"m"`, `"made-up-3"`, 1), bareAuth("Bearer sk-"+adminKey+"-1")).want(200)
	models := map[string]bool{}
	eventually(t, func() error {
		all, err := r.reg.Gather()
		if err != nil {
			return err
		}
		n := 0.0
		for _, f := range all {
			if f.GetName() != "sluice_requests_total" {
				continue
			}
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
				for _, l := range m.GetLabel() {
					if l.GetName() == "model" {
						models[l.GetValue()] = true
					}
				}
			}
		}
		if n != 4 {
			return errors.New("not counted yet")
		}
		return nil
	})
	if len(models) != 2 || !models["m"] || !models["other"] {
		t.Fatal(models)
	}
}
