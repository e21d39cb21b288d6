package fakellm

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	f := New(o)
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return f, s.URL
}

type answer struct {
	*http.Response
	body string
	err  error
}

func post(t *testing.T, to, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b), err}
}

// events are the data texts of a stream.
func events(t *testing.T, body string) []string {
	t.Helper()
	var out []string
	for frame := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(body, "\r\n", "\n")), "\n\n") {
		for line := range strings.SplitSeq(frame, "\n") {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				out = append(out, data)
				if data != "[DONE]" && !json.Valid([]byte(data)) {
					t.Errorf("event is not JSON: %s", data)
				}
			}
		}
	}
	return out
}

const said = "Hello from the fake LLM. You said: hi" // 37 bytes, 10 tokens

func TestAnswers(t *testing.T) {
	_, url := start(t, Options{})
	for _, tt := range []struct {
		name, path, body string
		want             map[string]string // gjson path: value
	}{
		{"chat", "/v1/chat/completions", `{"model":"m","messages":[{"role":"system","content":"be!!"},{"role":"user","content":"hi"}]}`, map[string]string{
			"object": "chat.completion", "model": "m", "choices.0.message.content": said, "choices.0.finish_reason": "stop",
			"usage.prompt_tokens": "2", "usage.completion_tokens": "10", "usage.total_tokens": "12"}},
		{"chat with parts", "/x/y/chat/completions", `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:xxxxxxxxxxxxxxxxxxxx"}}]},{"role":"assistant","content":"no"}]}`, map[string]string{
			"choices.0.message.content": said, "usage.prompt_tokens": "1"}},
		{"two choices", "/v1/chat/completions", `{"model":"m","n":2,"messages":[{"role":"user","content":"hi"}]}`, map[string]string{
			"choices.#": "2", "choices.1.index": "1", "usage.completion_tokens": "20"}},
		{"bound", "/v1/chat/completions", `{"model":"m","max_tokens":2,"messages":[{"role":"user","content":"hi"}]}`, map[string]string{
			"choices.0.message.content": "Hello fr", "choices.0.finish_reason": "length", "usage.completion_tokens": "2"}},
		{"tool", "/v1/chat/completions", `{"model":"m","fake":{"tool_call":true},"tools":[{"type":"function","function":{"name":"weather"}}],"messages":[{"role":"user","content":"hi"}]}`, map[string]string{
			"choices.0.message.tool_calls.0.function.name": "weather", "choices.0.message.tool_calls.0.function.arguments": toolArguments, "choices.0.finish_reason": "tool_calls"}},
		{"usage", "/v1/chat/completions", `{"model":"m","fake":{"usage":{"prompt_tokens":9007199254740993}},"messages":[{"role":"user","content":"hi"}]}`, map[string]string{
			"usage": `{"prompt_tokens":9007199254740993}`}},
		{"no usage", "/v1/chat/completions", `{"model":"m","fake":{"no_usage":true},"messages":[{"role":"user","content":"hi"}]}`, map[string]string{"usage": ""}},
		{"text and model", "/v1/chat/completions", `{"model":"m","fake":{"text":"a\"\\\n\u0000é","model":"other"},"messages":[{"role":"user","content":"hi"}]}`, map[string]string{
			"choices.0.message.content": "a\"\\\n\x00é", "model": "other"}},
		{"completions", "/v1/completions", `{"model":"m","prompt":"hi"}`, map[string]string{"object": "text_completion", "choices.0.text": said, "usage.total_tokens": "11"}},
		{"embeddings", "/v1/embeddings", `{"model":"m","input":["a","bbbbb"],"dimensions":3}`, map[string]string{
			"data.#": "2", "data.1.index": "1", "data.0.embedding.#": "3", "usage.prompt_tokens": "2", "usage.total_tokens": "2"}},
		{"moderations", "/v1/moderations", `{"input":["kill","kiss"]}`, map[string]string{"results.0.flagged": "true", "results.1.flagged": "false"}},
		{"rerank", "/v1/rerank", `{"model":"m","query":"cat dog","documents":["cow","cat and dog",{"text":"dog"}],"top_n":2}`, map[string]string{
			"results.#": "2", "results.0.index": "1", "results.0.relevance_score": "0.50", "results.1.document.text": "dog", "usage.total_tokens": "6"}},
		{"image", "/v1/images/generations", `{"model":"dall-e-3","prompt":"a dot","n":2}`, map[string]string{"data.#": "2", "usage": ""}},
		{"gpt-image", "/v1/images/generations", `{"model":"gpt-image-1","prompt":"a dot"}`, map[string]string{"usage.input_tokens": "2", "usage.output_tokens": "272", "usage.total_tokens": "274"}},
		{"responses", "/v1/responses", `{"model":"m","instructions":"be!!","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}]}`, map[string]string{
			"object": "response", "status": "completed", "output.0.content.0.text": said, "usage.input_tokens": "2", "usage.output_tokens": "10", "usage.total_tokens": "12"}},
		{"responses with a bound", "/v1/responses", `{"model":"m","max_output_tokens":2,"input":"hi"}`, map[string]string{"status": "incomplete", "incomplete_details.reason": "max_output_tokens", "usage.output_tokens": "2"}},
		{"responses with a tool", "/v1/responses", `{"model":"m","fake":{"tool_call":true},"tools":[{"type":"function","name":"weather"}],"input":"hi"}`, map[string]string{"output.0.name": "weather", "output.0.arguments": toolArguments}},
		{"claude", "/v1/messages", `{"model":"m","max_tokens":100,"system":[{"type":"text","text":"be!!"}],"messages":[{"role":"user","content":"hi"}]}`, map[string]string{
			"type": "message", "content.0.text": said, "stop_reason": "end_turn", "usage.input_tokens": "2", "usage.output_tokens": "10"}},
		{"claude with a tool", "/v1/messages", `{"model":"m","max_tokens":100,"fake":{"tool_call":true},"tools":[{"name":"weather"}],"messages":[{"role":"user","content":"hi"}]}`, map[string]string{
			"content.0.type": "tool_use", "content.0.name": "weather", "content.0.input.days": "2", "stop_reason": "tool_use"}},
		{"claude counts", "/v1/messages/count_tokens", `{"model":"m","messages":[{"role":"user","content":"12345"}]}`, map[string]string{"input_tokens": "2"}},
		{"gemini", "/v1beta/models/g:generateContent", `{"systemInstruction":{"parts":[{"text":"be!!"}]},"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`, map[string]string{
			"candidates.0.content.parts.0.text": said, "candidates.0.finishReason": "STOP", "modelVersion": "g",
			"usageMetadata.promptTokenCount": "2", "usageMetadata.candidatesTokenCount": "10", "usageMetadata.totalTokenCount": "12"}},
		{"gemini with a bound", "/v1beta/models/g:generateContent", `{"generationConfig":{"maxOutputTokens":2},"contents":[{"parts":[{"text":"hi"}]}]}`, map[string]string{"candidates.0.finishReason": "MAX_TOKENS"}},
		{"gemini with a tool", "/v1beta/models/g:generateContent", `{"fake":{"tool_call":true},"tools":[{"functionDeclarations":[{"name":"weather"}]}],"contents":[{"parts":[{"text":"hi"}]}]}`, map[string]string{
			"candidates.0.content.parts.0.functionCall.name": "weather"}},
		{"gemini embeds", "/v1beta/models/e:embedContent", `{"content":{"parts":[{"text":"hi"}]},"outputDimensionality":4}`, map[string]string{"embedding.values.#": "4"}},
		{"gemini embeds many", "/v1beta/models/e:batchEmbedContents", `{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]}}]}`, map[string]string{"embeddings.#": "2"}},
		{"gemini counts", "/v1beta/models/a%2Fb:countTokens", `{"contents":[{"parts":[{"text":"12345"}]}]}`, map[string]string{"totalTokens": "2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := post(t, url+tt.path, tt.body)
			if a.err != nil || a.StatusCode != 200 || !json.Valid([]byte(a.body)) {
				t.Fatalf("%v %s", a.err, a.body)
			}
			for path, want := range tt.want {
				got := gjson.Get(a.body, path)
				text := got.String()
				if path == "results.0.relevance_score" {
					text = got.Raw
				}
				if text != want {
					t.Errorf("%s: %q, want %q", path, text, want)
				}
			}
			if b := post(t, url+tt.path, tt.body); b.body != a.body {
				t.Error("the same request got another answer")
			}
		})
	}
}

func TestBase64Embeddings(t *testing.T) {
	_, url := start(t, Options{})
	plain := gjson.Get(post(t, url+"/v1/embeddings", `{"model":"m","input":"a"}`).body, "data.0.embedding").Array()
	raw, err := base64.StdEncoding.DecodeString(gjson.Get(post(t, url+"/v1/embeddings", `{"model":"m","input":"a","encoding_format":"base64"}`).body, "data.0.embedding").Str)
	if err != nil || len(raw) != 4*len(plain) {
		t.Fatalf("%d bytes for %d numbers, %v", len(raw), len(plain), err)
	}
	for i, v := range plain {
		if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])); got != float32(v.Float()) {
			t.Errorf("number %d: %v, want %v", i, got, v)
		}
	}
}

func TestStreams(t *testing.T) {
	_, url := start(t, Options{})
	const chat = `"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]`
	text := func(paths ...string) func([]string) string {
		return func(list []string) string {
			var b strings.Builder
			for _, e := range list {
				for _, p := range paths {
					b.WriteString(gjson.Get(e, p).Str)
				}
			}
			return b.String()
		}
	}
	for _, tt := range []struct {
		name, path, body, kind string
		text                   func([]string) string
		n                      int
		last                   map[string]string // of the last JSON event
		end                    string
	}{
		{"chat", "/v1/chat/completions", `{` + chat + `}`, "text/event-stream", text("choices.0.delta.content"), 11, map[string]string{"choices.0.finish_reason": "stop", "usage": ""}, "[DONE]"},
		{"chat with usage", "/v1/chat/completions", `{` + chat + `,"stream_options":{"include_usage":true}}`, "text/event-stream", text("choices.0.delta.content"), 12, map[string]string{"choices.#": "0", "usage.total_tokens": "11"}, "[DONE]"},
		{"chat in chunks", "/v1/chat/completions", `{` + chat + `,"fake":{"chunks":5,"crlf":true,"comments":true}}`, "text/event-stream", text("choices.0.delta.content"), 8, nil, "[DONE]"},
		{"completions", "/v1/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},"prompt":"hi"}`, "text/event-stream", text("choices.0.text"), 11, map[string]string{"usage.completion_tokens": "10"}, "[DONE]"},
		{"responses", "/v1/responses", `{"model":"m","stream":true,"input":"hi"}`, "text/event-stream; charset=utf-8", func(l []string) string {
			var b strings.Builder
			for _, e := range l {
				if gjson.Get(e, "type").Str == "response.output_text.delta" {
					b.WriteString(gjson.Get(e, "delta").Str)
				}
			}
			return b.String()
		}, 16, map[string]string{"type": "response.completed", "response.usage.output_tokens": "10", "sequence_number": "15"}, ""},
		{"claude", "/v1/messages", `{"max_tokens":99,` + chat + `}`, "text/event-stream; charset=utf-8", text("delta.text"), 14, map[string]string{"type": "message_stop"}, ""},
		{"gemini", "/v1beta/models/g:streamGenerateContent?alt=sse", `{"contents":[{"parts":[{"text":"hi"}]}]}`, "text/event-stream", text("candidates.0.content.parts.0.text"), 8, map[string]string{"candidates.0.finishReason": "STOP", "usageMetadata.candidatesTokenCount": "10"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := post(t, url+tt.path, tt.body)
			if a.err != nil || a.StatusCode != 200 || a.Header.Get("Content-Type") != tt.kind {
				t.Fatalf("%v %s %s", a.err, a.Header, a.body)
			}
			list := events(t, a.body)
			if tt.end != "" {
				if list[len(list)-1] != tt.end {
					t.Errorf("ends with %s", list[len(list)-1])
				}
				if tt.end == "[DONE]" {
					defer func(n int) {
						if n != tt.n {
							t.Errorf("%d events, want %d", n, tt.n)
						}
					}(len(list))
				}
				list = list[:len(list)-1]
			} else if len(list) != tt.n {
				t.Errorf("%d events, want %d", len(list), tt.n)
			}
			if got := tt.text(list); got != said {
				t.Errorf("text %q", got)
			}
			for path, want := range tt.last {
				if got := gjson.Get(list[len(list)-1], path).String(); got != want {
					t.Errorf("last event's %s: %q, want %q", path, got, want)
				}
			}
		})
	}
	a := post(t, url+"/v1beta/models/g:streamGenerateContent", `{"contents":[{"parts":[{"text":"hi"}]}]}`)
	if list := gjson.Parse(a.body); !json.Valid([]byte(a.body)) || len(list.Array()) != 8 || list.Get("7.candidates.0.finishReason").Str != "STOP" || a.Header.Get("Content-Type") != "application/json; charset=UTF-8" {
		t.Errorf("the array form: %s", a.body)
	}
	a = post(t, url+"/v1/messages", `{"max_tokens":99,"fake":{"usage":{"input_tokens":5,"cache_read_input_tokens":7,"output_tokens":11}},`+chat+`}`)
	list := events(t, a.body)
	if got := gjson.Get(list[0], "message.usage").Raw; got != `{"input_tokens":5,"cache_read_input_tokens":7,"output_tokens":1}` {
		t.Errorf("claude's first usage: %s", got)
	}
	if got := gjson.Get(list[len(list)-2], "usage").Raw; got != `{"input_tokens":5,"cache_read_input_tokens":7,"output_tokens":11}` {
		t.Errorf("claude's last usage: %s", got)
	}
	for path, body := range map[string]string{"/v1/chat/completions": `{` + chat + `,"fake":{"tool_call":true}}`, "/v1/messages": `{"max_tokens":9,` + chat + `,"fake":{"tool_call":true}}`, "/v1/responses": `{"model":"m","stream":true,"input":"hi","fake":{"tool_call":true}}`} {
		args := ""
		for _, e := range events(t, post(t, url+path, body).body) {
			args += gjson.Get(e, "choices.0.delta.tool_calls.0.function.arguments").Str + gjson.Get(e, "delta.partial_json").Str
			if gjson.Get(e, "type").Str == "response.function_call_arguments.delta" {
				args += gjson.Get(e, "delta").Str
			}
		}
		if args != toolArguments {
			t.Errorf("%s: tool arguments %q", path, args)
		}
	}
}

func TestChunks(t *testing.T) {
	_, url := start(t, Options{})
	for _, tt := range []struct {
		knobs string
		n     int
		bytes int // of each, 0 = any
	}{
		{`{"chunks":100}`, 100, 0},
		{`{"chunks":3,"text":"ééé"}`, 3, 2},
		{`{"chunks":50,"chunk_bytes":7}`, 50, 7},
		{`{"chunk_bytes":10,"text":"0123456789"}`, 1, 10},
		{`{"chunks":1}`, 1, 0},
		{`{"chunks":4,"text":""}`, 4, 0},
	} {
		a := post(t, url+"/v1/chat/completions", `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"fake":`+tt.knobs+`}`)
		n := 0
		for _, e := range events(t, a.body) {
			if c := gjson.Get(e, "choices.0.delta.content"); c.Exists() && !gjson.Get(e, "choices.0.delta.role").Exists() {
				n++
				if tt.bytes > 0 && len(c.Str) != tt.bytes {
					t.Errorf("%s: chunk %q", tt.knobs, c.Str)
				}
			}
		}
		if n != tt.n {
			t.Errorf("%s: %d chunks", tt.knobs, n)
		}
	}
}

func TestTroubles(t *testing.T) {
	f, url := start(t, Options{})
	const head = `"model":"m","max_tokens":99,"messages":[{"role":"user","content":"hi"}]`
	chat := func(knobs string) answer { return post(t, url+"/v1/chat/completions", `{`+head+`,"fake":`+knobs+`}`) }
	stream := func(knobs string) answer {
		return post(t, url+"/v1/chat/completions", `{"stream":true,`+head+`,"fake":`+knobs+`}`)
	}
	if a := chat(`{"status":503,"retry_after":"1"}`); a.StatusCode != 503 || a.Header.Get("Retry-After") != "1" || gjson.Get(a.body, "error.type").Str != "server_error" {
		t.Errorf("status: %s", a.body)
	}
	if a := post(t, url+"/v1/messages", `{`+head+`,"fake":{"status":529}}`); a.StatusCode != 529 || gjson.Get(a.body, "error.type").Str != "overloaded_error" {
		t.Errorf("claude's status: %s", a.body)
	}
	if a := post(t, url+"/v1beta/models/g:generateContent", `{"contents":[],"fake":{"status":429}}`); a.StatusCode != 429 || gjson.Get(a.body, "error.status").Str != "RESOURCE_EXHAUSTED" {
		t.Errorf("gemini's status: %s", a.body)
	}
	if a := chat(`{"status":500,"error_body":{"detail":"x"}}`); a.body != `{"detail":"x"}` {
		t.Errorf("error body: %s", a.body)
	}
	if a := chat(`{"status":500,"error_body":"plain"}`); a.body != "plain" || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("error text: %s", a.body)
	}
	if a := chat(`{"redirect":"http://x.test/"}`); a.StatusCode != 302 || a.Header.Get("Location") != "http://x.test/" {
		t.Errorf("redirect: %d", a.StatusCode)
	}
	if a := chat(`{"headers":{"X-Ratelimit-Remaining":"3"},"content_type":"text/x"}`); a.Header.Get("X-Ratelimit-Remaining") != "3" || a.Header.Get("Content-Type") != "text/x" {
		t.Errorf("headers: %v", a.Header)
	}
	if a := chat(`{"close":true}`); a.err == nil {
		t.Error("close: an answer")
	}
	if a := chat(`{"cut_after_chunks":0}`); !errors.Is(a.err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", a.err)
	}
	if a := chat(`{"garbage":true}`); json.Valid([]byte(a.body)) {
		t.Error("garbage is JSON")
	}
	for n := range 3 {
		a := stream(fmt.Sprintf(`{"chunks":3,"cut_after_chunks":%d}`, n))
		if !errors.Is(a.err, io.ErrUnexpectedEOF) || strings.Count(a.body, `"content":"`) != n+1 { // the first is the opening one
			t.Errorf("cut after %d: %v\n%s", n, a.err, a.body)
		}
	}
	if a := stream(`{"chunks":3,"end_after_chunks":2}`); a.err != nil || strings.Contains(a.body, "[DONE]") || strings.Contains(a.body, `"stop"`) {
		t.Errorf("end: %v\n%s", a.err, a.body)
	}
	if a := stream(`{"no_done":true}`); a.err != nil || strings.Contains(a.body, "[DONE]") || !strings.Contains(a.body, `"stop"`) {
		t.Errorf("no_done: %v", a.err)
	}
	if a := stream(`{"chunks":3,"error_after_chunks":1}`); a.err != nil || !strings.Contains(a.body, `data: {"error":{"message":"The fake LLM broke off."`) {
		t.Errorf("error event: %s", a.body)
	}
	for i, want := range []int{503, 503, 200, 200} {
		if a := chat(`{"status":503,"times":2,"id":"a"}`); a.StatusCode != want {
			t.Errorf("times, request %d: %d", i, a.StatusCode)
		}
	}
	f.Reset()
	if a := stream(`{"cut_after_chunks":1,"times":1,"id":"a"}`); a.err == nil {
		t.Error("times: the first stream is whole")
	}
	if a := stream(`{"cut_after_chunks":1,"times":1,"id":"a"}`); a.err != nil {
		t.Error("times: the second stream is cut")
	}
	if a := post(t, url+"/v1/chat/completions", `{`+head+`,"fake":{"gzip_bomb":true}}`, "Accept-Encoding", "identity"); a.Header.Get("Content-Encoding") != "gzip" || len(a.body) > 1<<20 {
		t.Errorf("bomb: %d bytes", len(a.body))
	} else if z, err := gzip.NewReader(strings.NewReader(a.body)); err != nil {
		t.Error(err)
	} else if n, err := io.CopyN(io.Discard, z, 2<<20); err != nil {
		t.Errorf("bomb: %d bytes, %v", n, err)
	}
	for _, body := range []string{`{`, `[]`, ``, `{"model":"m"}`, `{"messages":[]}`, `{` + head + `,"fake":{"stauts":1}}`, `{` + head + `,"fake":{"status":1}}`, `{` + head + `,"n":1000}`, `{` + head + `,"fake":{"chunks":99999999,"chunk_bytes":99999999}}`} {
		if a := post(t, url+"/v1/chat/completions", body); a.StatusCode != 400 || gjson.Get(a.body, "error.type").Str != "invalid_request_error" {
			t.Errorf("%s: %d %s", body, a.StatusCode, a.body)
		}
	}
	if a := post(t, url+"/v1/nothing", `{}`); a.StatusCode != 404 {
		t.Errorf("no such route: %d", a.StatusCode)
	}
}

func TestKnobLayers(t *testing.T) {
	_, url := start(t, Options{Fake: `{"text":"options","model":"o"}`})
	const body = `{"model":"m","messages":[{"role":"user","content":"hi"}],"fake":{"text":"body"}}`
	if a := post(t, url+"/v1/chat/completions", body); gjson.Get(a.body, "choices.0.message.content").Str != "body" || gjson.Get(a.body, "model").Str != "o" {
		t.Errorf("%s", a.body)
	}
	if a := post(t, url+"/v1/chat/completions", body, "X-Fake", `{"text":"header"}`); gjson.Get(a.body, "choices.0.message.content").Str != "header" {
		t.Errorf("%s", a.body)
	}
	if a := post(t, url+"/v1/chat/completions", body, "X-Fake", `{`); a.StatusCode != 400 {
		t.Errorf("%s", a.body)
	}
	_, bad := start(t, Options{Fake: `{"x":1}`})
	if a := post(t, bad+"/v1/chat/completions", body); a.StatusCode != 400 {
		t.Errorf("wrong options: %d", a.StatusCode)
	}
}

func TestClientLeaves(t *testing.T) {
	f, url := start(t, Options{})
	for i, tt := range []struct{ name, body string }{
		{"hang", `{"model":"m","messages":[{"role":"user","content":"hi"}],"fake":{"hang":true}}`},
		{"hang in a stream", `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"fake":{"hang_after_chunks":2}}`},
		{"slow stream", `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"fake":{"chunks":9,"chunk_delay_ms":60000}}`},
		{"slow start", `{"model":"m","messages":[{"role":"user","content":"hi"}],"fake":{"first_byte_delay_ms":60000}}`},
		{"endless stream", `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"fake":{"endless":true}}`},
		{"endless body", `{"model":"m","messages":[{"role":"user","content":"hi"}],"fake":{"endless":true}}`},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		until(t, tt.name+": in flight", func() bool { return f.Stats().InFlight == 1 })
		before := time.Now()
		cancel()
		<-done
		until(t, tt.name+": noticed", func() bool { s := f.Stats(); return s.InFlight == 0 && s.Cancelled == int64(i+1) })
		if last := f.Stats().LastCancel; last.Before(before) {
			t.Errorf("%s: noticed at %v, before %v", tt.name, last, before)
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited for: %s", what)
		}
	}
}

func TestRecord(t *testing.T) {
	f, url := start(t, Options{Record: 3, Key: "k"})
	for i := range 5 {
		post(t, url+"/v1/embeddings?n="+fmt.Sprint(i), `{"model":"m","input":"a"}`, "Authorization", "Bearer k", "X-I", fmt.Sprint(i))
	}
	got := f.Requests()
	if len(got) != 3 {
		t.Fatalf("%d kept", len(got))
	}
	for i, r := range got {
		if want := fmt.Sprint(i + 2); r.Header.Get("X-I") != want || r.URI != "/v1/embeddings?n="+want || string(r.Body) != `{"model":"m","input":"a"}` || r.Method != "POST" {
			t.Errorf("%d: %+v", i, r)
		}
	}
	f.Reset()
	if n := len(f.Requests()); n != 0 {
		t.Errorf("%d after Reset", n)
	}
	for _, h := range [][2]string{{"Authorization", "Bearer k"}, {"Authorization", "k"}, {"X-Api-Key", "k"}, {"X-Goog-Api-Key", "k"}, {"Api-Key", "k"}} {
		if a := post(t, url+"/v1/embeddings", `{"model":"m","input":"a"}`, h[0], h[1]); a.StatusCode != 200 {
			t.Errorf("%s: %d", h[0], a.StatusCode)
		}
	}
	if a := post(t, url+"/v1/embeddings", `{"model":"m","input":"a"}`, "Authorization", "Bearer x"); a.StatusCode != 401 || gjson.Get(a.body, "error.code").Str != "invalid_api_key" {
		t.Errorf("wrong key: %s", a.body)
	}
}

func TestModels(t *testing.T) {
	_, url := start(t, Options{Models: []string{"a", "b"}})
	get := func(path string, header ...string) answer {
		req, err := http.NewRequest(http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(header) > 0 {
			req.Header.Set(header[0], header[1])
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return answer{resp, string(b), err}
	}
	for _, tt := range []struct {
		path, header, at, want string
		status                 int
	}{
		{"/v1/models", "", "data.1.id", "b", 200},
		{"/v1/models", "anthropic-version", "data.0.type", "model", 200},
		{"/v1beta/models", "", "models.0.name", "models/a", 200},
		{"/v1/models/b", "", "object", "model", 200},
		{"/v1beta/models/b", "", "name", "models/b", 200},
		{"/v1/models/x", "", "error.type", "invalid_request_error", 404},
	} {
		var h []string
		if tt.header != "" {
			h = []string{tt.header, "1"}
		}
		if a := get(tt.path, h...); a.StatusCode != tt.status || gjson.Get(a.body, tt.at).String() != tt.want {
			t.Errorf("%s: %d %s", tt.path, a.StatusCode, a.body)
		}
	}
}

func form(t *testing.T, fields map[string]string, files map[string]int) (body, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for k, v := range fields {
		if err := w.WriteField(k, v); err != nil {
			t.Fatal(err)
		}
	}
	for k, n := range files {
		p, err := w.CreateFormFile(k, k+".bin")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = p.Write(make([]byte, n))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func TestMedia(t *testing.T) {
	_, url := start(t, Options{})
	const heard = greeting + "a file of 5000 bytes"
	for _, tt := range []struct {
		name, path string
		fields     map[string]string
		files      map[string]int
		status     int
		kind       string
		check      func(string) bool
	}{
		{"json", "/v1/audio/transcriptions", map[string]string{"model": "whisper-1"}, map[string]int{"file": 5000}, 200, "application/json", func(b string) bool {
			return gjson.Get(b, "text").Str == heard && gjson.Get(b, "usage.input_tokens").Int() == 5
		}},
		{"usage", "/v1/audio/translations", map[string]string{"model": "whisper-1", "fake": `{"usage":{"type":"duration","seconds":7}}`}, map[string]int{"file": 5000}, 200, "application/json", func(b string) bool {
			return gjson.Get(b, "usage.seconds").Int() == 7
		}},
		{"verbose", "/v1/audio/transcriptions", map[string]string{"model": "whisper-1", "response_format": "verbose_json"}, map[string]int{"file": 5000}, 200, "application/json", func(b string) bool {
			return gjson.Valid(b) && gjson.Get(b, "segments.0.text").Str == heard && gjson.Get(b, "usage.type").Str == "duration"
		}},
		{"text", "/v1/audio/transcriptions", map[string]string{"model": "whisper-1", "response_format": "text"}, map[string]int{"file": 5000}, 200, "text/plain; charset=utf-8", func(b string) bool { return b == heard+"\n" }},
		{"stream", "/v1/audio/transcriptions", map[string]string{"model": "gpt-4o-transcribe", "stream": "true"}, map[string]int{"file": 5000}, 200, "text/event-stream; charset=utf-8", func(b string) bool { return strings.Contains(b, `"transcript.text.done"`) }},
		{"no file", "/v1/audio/transcriptions", map[string]string{"model": "whisper-1"}, nil, 400, "application/json", func(b string) bool { return strings.Contains(b, "'file'") }},
		{"edit", "/v1/images/edits", map[string]string{"model": "gpt-image-1", "prompt": "dot!", "n": "2"}, map[string]int{"image[]": 10}, 200, "application/json", func(b string) bool {
			return gjson.Get(b, "data.#").Int() == 2 && gjson.Get(b, "usage.input_tokens").Int() == 65
		}},
		{"status", "/v1/images/edits", map[string]string{"model": "m", "prompt": "x", "fake": `{"status":429}`}, map[string]int{"image": 10}, 429, "application/json", func(string) bool { return true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, kind := form(t, tt.fields, tt.files)
			a := post(t, url+tt.path, body, "Content-Type", kind)
			if a.err != nil || a.StatusCode != tt.status || a.Header.Get("Content-Type") != tt.kind || !tt.check(a.body) {
				t.Fatalf("%v %d %s %s", a.err, a.StatusCode, a.Header.Get("Content-Type"), a.body)
			}
		})
	}
	a, b := post(t, url+"/v1/audio/speech", `{"model":"tts-1","input":"hello","voice":"x"}`), post(t, url+"/v1/audio/speech", `{"model":"tts-1","input":"hello","voice":"x"}`)
	if a.Header.Get("Content-Type") != "audio/mpeg" || len(a.body) != 160 || a.body != b.body {
		t.Errorf("speech: %v %d bytes", a.Header, len(a.body))
	}
	if a := post(t, url+"/v1/audio/transcriptions", "--x\r\n", "Content-Type", "multipart/form-data; boundary=x"); a.StatusCode != 400 {
		t.Errorf("broken form: %d", a.StatusCode)
	}
}

func TestHammer(t *testing.T) {
	f, url := start(t, Options{Record: 8})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				a := post(t, url+"/v1/chat/completions", fmt.Sprintf(`{"model":"m","stream":%v,"messages":[{"role":"user","content":"hi"}],"fake":{"status":503,"times":3,"id":"x"}}`, i%2 == 0))
				if a.err != nil {
					t.Error(a.err)
				}
				f.Requests()
				f.Stats()
			}
		})
	}
	wg.Wait()
	until(t, "all done", func() bool { s := f.Stats(); return s.Calls == 400 && s.InFlight == 0 })
}

func FuzzQuote(f *testing.F) {
	f.Add("a\"\\\n\t\x00\xffé\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(quote(nil, s), &got); err != nil || utf8.ValidString(s) && got != s {
			t.Fatalf("%q -> %q, %v", s, got, err)
		}
	})
}
