package claude

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/llm/llmtest"
)

func parseBody(t testing.TB, body string) *llm.Request {
	t.Helper()
	r, err := New().Parse(llm.OpMessages, "application/json", "", []byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r
}

func TestParse(t *testing.T) {
	r := parseBody(t, `{"model":"claude-sonnet-4-5","max_tokens":1024,"stream":true,"messages":[{"role":"user","content":"hi"}]}`)
	if r.Model != "claude-sonnet-4-5" || !r.Stream || r.MaxOutput != 1024 || r.Choices != 1 || r.HasSystem || r.Input == 0 {
		t.Errorf("%+v", r)
	}
	for system, want := range map[string]bool{`"s"`: true, `""`: false, `null`: false, `[]`: false, `[{"type":"text","text":"s"}]`: true} {
		if r := parseBody(t, `{"model":"m","messages":[{}],"system":`+system+`}`); r.HasSystem != want {
			t.Errorf("%s: %v", system, r.HasSystem)
		}
	}
	if r, err := New().Parse(llm.OpMessagesCount, "", "", []byte(`{"model":"m","messages":[{}],"stream":true}`)); err != nil || r.Stream {
		t.Error(r, err)
	}
	for body, param := range map[string]string{
		`{"messages":[{}]}`:                                   "model",
		`{"model":"m"}`:                                       "messages",
		`{"model":"m","messages":[]}`:                         "messages",
		`{"model":"m","messages":{}}`:                         "messages",
		`{"model":"m","messages":[{}],"system":5}`:            "system",
		`{"model":"m","messages":[{}],"max_tokens":-5}`:       "max_tokens",
		`{"model":"m","messages":[{}],"stream":"yes"}`:        "stream",
		`{"model":"m","messages":[{}],"Max_Tokens":5}`:        "Max_Tokens",
		`{"model":"m","messages":[{}],"system":1,"system":2}`: "system",
		`5`: "",
	} {
		var bad *llm.BadRequest
		if _, err := New().Parse(llm.OpMessages, "", "", []byte(body)); !errors.As(err, &bad) || bad.Param != param {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestEdit(t *testing.T) {
	cases := map[string]struct {
		body  string
		edits llm.Edits
		want  string
	}{
		"nothing":      {`{"model":"m", "messages":[{}]}`, llm.Edits{Model: "m", IncludeUsage: true}, `{"model":"m", "messages":[{}]}`},
		"model":        {`{"model":"m", "messages":[{}]}`, llm.Edits{Model: "u"}, `{"model":"u", "messages":[{}]}`},
		"system":       {`{"model":"m", "messages":[{}]}`, llm.Edits{Model: "u", SystemPrompt: "p"}, `{"model":"u","system":"p", "messages":[{}]}`},
		"system null":  {`{"system":null,"model":"m","messages":[{}]}`, llm.Edits{SystemPrompt: "p"}, `{"system":"p","model":"m","messages":[{}]}`},
		"system empty": {`{"system":[],"model":"m","messages":[{}]}`, llm.Edits{SystemPrompt: "p"}, `{"system":[{"type":"text","text":"p"}],"model":"m","messages":[{}]}`},
		"system there": {`{"system":"s","model":"m","messages":[{}]}`, llm.Edits{SystemPrompt: "p"}, `{"system":"s","model":"m","messages":[{}]}`},
		"system first": {`{"system":"s","model":"m","messages":[{}]}`, llm.Edits{SystemPrompt: "p", SystemFirst: true}, `{"system":"p\ns","model":"m","messages":[{}]}`},
		"before parts": {`{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"model":"m","messages":[{}]}`, llm.Edits{SystemPrompt: "p", SystemFirst: true},
			`{"system":[{"type":"text","text":"p"},{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"model":"m","messages":[{}]}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := parseBody(t, c.body)
			if got, err := New().Edit(r, c.edits); err != nil || string(got) != c.want {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	r := parseBody(t, `{"model":"m","messages":[{}],"max_tokens":5}`)
	v, err := New().Reparse(r, "", []byte(`{"model":"u","messages":[{}],"max_tokens":50,"stream":true}`))
	if err != nil || v.Model != "m" || v.MaxOutput != 50 || !v.Stream {
		t.Errorf("%+v %v", v, err)
	}
}

const stream = `event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude-sonnet-4-5","stop_reason":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":300,"cache_read_input_tokens":1000,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":1,"service_tier":"standard"}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello!!"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"1234567"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3h"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15,"server_tool_use":{"web_search_requests":2}}}

event: message_stop
data: {"type":"message_stop"}

`

func events(t testing.TB, tap llm.Tap, in string) (last llm.Verdict) {
	t.Helper()
	r := llm.NewSSEReader(strings.NewReader(in), 1<<20)
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		last = tap.Event(f.Data)
	}
}

func TestStream(t *testing.T) {
	tap := New().NewTap(&llm.Request{Operation: llm.OpMessages, Choices: 1, Input: 9})
	if v := events(t, tap, stream); v != llm.Pass || !tap.Complete() {
		t.Errorf("%v %v", v, tap.Complete())
	}
	u, ok := tap.Usage()
	want := llm.Usage{Input: 25, CacheRead: 1000, CacheWrite: 100, CacheWrite1h: 200, Output: 15, Tools: []llm.ToolCalls{{Name: "web_search", Calls: 2}}, ClaudeStyle: true}
	if !ok || !reflect.DeepEqual(u, want) {
		t.Errorf("%+v %v", u, ok)
	}

	// Cut before the last numbers: the prompt is known, the output is counted.
	parts := strings.SplitAfter(stream, "\n\n")
	tap = New().NewTap(&llm.Request{Operation: llm.OpMessages, Choices: 1, Input: 9})
	events(t, tap, strings.Join(parts[:7], ""))
	if u, ok := tap.Usage(); ok || tap.Complete() {
		t.Errorf("%+v %v", u, tap.Complete())
	}
	want = llm.Usage{Input: 25, CacheRead: 1000, CacheWrite: 100, CacheWrite1h: 200, Output: (6*21 + 20) / 21, ClaudeStyle: true}
	if e := tap.Estimate(); !reflect.DeepEqual(e, want) {
		t.Errorf("%+v", e)
	}
	tap = New().NewTap(&llm.Request{Operation: llm.OpMessages, Choices: 1, Input: 9})
	if e := tap.Estimate(); !reflect.DeepEqual(e, llm.Usage{Input: 9, ClaudeStyle: true}) {
		t.Errorf("%+v", e)
	}
	if v := tap.Event([]byte(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)); v != llm.Failed {
		t.Error(v)
	}
}

func TestMerge(t *testing.T) {
	delta := func(usage string) string {
		return "data: " + `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":` + usage + "}\n\n"
	}
	cases := map[string]struct {
		in   string
		want llm.Usage
		ok   bool
	}{
		"later wins":     {delta(`{"input_tokens":30,"output_tokens":5}`) + delta(`{"input_tokens":40,"output_tokens":9,"cache_read_input_tokens":7}`), llm.Usage{Input: 40, CacheRead: 7, Output: 9, ClaudeStyle: true}, true},
		"zero stays out": {delta(`{"input_tokens":30,"output_tokens":5}`) + delta(`{"input_tokens":0,"output_tokens":9}`), llm.Usage{Input: 30, Output: 9, ClaudeStyle: true}, true},
		"no split":       {delta(`{"input_tokens":3,"cache_creation_input_tokens":50,"output_tokens":9}`), llm.Usage{Input: 3, CacheWrite: 50, Output: 9, ClaudeStyle: true}, true},
		"split alone":    {delta(`{"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":6},"output_tokens":9}`), llm.Usage{CacheWrite: 4, CacheWrite1h: 6, Output: 9, ClaudeStyle: true}, true},
		"nothing":        {delta(`{}`), llm.Usage{ClaudeStyle: true}, false},
		"none":           {delta(`null`), llm.Usage{ClaudeStyle: true}, false},
	}
	for name, c := range cases {
		tap := New().NewTap(&llm.Request{Operation: llm.OpMessages, Choices: 1})
		events(t, tap, c.in)
		if u, ok := tap.Usage(); ok != c.ok || !reflect.DeepEqual(u, c.want) {
			t.Errorf("%s: %+v %v", name, u, ok)
		}
	}
}

func TestBody(t *testing.T) {
	tap := New().NewTap(&llm.Request{Operation: llm.OpMessages, Choices: 1})
	tap.Body("application/json", []byte(`{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"abcdefg"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"k":"v"}}],"stop_reason":"tool_use","usage":{"input_tokens":2095,"cache_read_input_tokens":1,"output_tokens":503}}`))
	if u, ok := tap.Usage(); !ok || !reflect.DeepEqual(u, llm.Usage{Input: 2095, CacheRead: 1, Output: 503, ClaudeStyle: true}) || !tap.Complete() {
		t.Errorf("%+v %v", u, ok)
	}
	tap = New().NewTap(&llm.Request{Operation: llm.OpMessagesCount, Choices: 1})
	tap.Body("application/json", []byte(`{"input_tokens":2095}`))
	if u, ok := tap.Usage(); !ok || u.Input != 2095 || !tap.Complete() {
		t.Errorf("%+v %v", u, ok)
	}
	tap = New().NewTap(&llm.Request{Operation: llm.OpMessages, Choices: 1, Input: 4})
	tap.Body("application/json", []byte(`{"content":[{"type":"text","text":"abcdefg"}]}`))
	if e := tap.Estimate(); e.Input != 4 || e.Output != 2 {
		t.Errorf("%+v", e)
	}
}

func TestErrors(t *testing.T) {
	e := llm.Error{Status: 429, Type: "rate_limit_error", Message: "slow", RequestID: "r1"}
	if got := string(New().EncodeError(e)); got != `{"type":"error","error":{"type":"rate_limit_error","message":"slow"},"request_id":"r1"}` {
		t.Error(got)
	}
	if got := string(New().EncodeStreamError(llm.OpMessages, llm.Error{Status: 529, Type: "overloaded_error"})); got != "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"error\"}}\n\n" {
		t.Errorf("%q", got)
	}
}

func BenchmarkTap(b *testing.B) {
	tap, data := New().NewTap(&llm.Request{Operation: llm.OpMessages, Choices: 1}), []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello there, this is"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if tap.Event(data) != llm.Pass {
			b.Fatal()
		}
	}
}

// FuzzTap: no answer makes the tap panic or count below zero.
func FuzzTap(f *testing.F) {
	f.Add([]byte(`{"type":"message_start","message":{"usage":{"input_tokens":1,"cache_creation_input_tokens":1e300,"cache_creation":{"ephemeral_1h_input_tokens":9}}}}`))
	f.Add([]byte(`{"type":"message_delta","usage":{"output_tokens":-5}}`))
	f.Add([]byte(`{"input_tokens":3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		llmtest.CheckTap(t, New(), data, llm.OpMessages, llm.OpMessagesCount)
	})
}

// FuzzEdit: an edited body is valid and differs from the client's in the edits alone.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{}],"system":null,"stream":true}`), "up", "sys\"tem")
	f.Add([]byte(`{"system":[{"type":"text","text":"s"}],"mod\u0065l":"m","messages":[{}],"max_tokens":1e2}`), "up", "sys\"tem")
	f.Add([]byte(`{"system":"","model":"m","messages":[{}]}`), "up", "sys\"tem")
	f.Fuzz(func(t *testing.T, body []byte, model, system string) {
		llmtest.CheckEdit(t, New(), llm.OpMessages, "", body, model, system, "model", "system")
	})
}
