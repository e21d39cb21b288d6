package responses

import (
	"encoding/json"
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
	r, err := New().Parse(llm.OpResponses, "application/json", "", []byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r
}

func TestParse(t *testing.T) {
	r := parseBody(t, `{"model":"gpt-5","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}],"stream":true,"max_output_tokens":99}`)
	if r.Model != "gpt-5" || !r.Stream || r.MaxOutput != 99 || r.Choices != 1 || r.HasSystem || r.Input == 0 {
		t.Errorf("%+v", r)
	}
	for body, want := range map[string]bool{
		`{"model":"m","input":"x","instructions":"be brief"}`:               true,
		`{"model":"m","input":"x","instructions":""}`:                       false,
		`{"model":"m","input":"x","instructions":null}`:                     false,
		`{"model":"m","input":[{"role":"developer","content":"be brief"}]}`: true,
	} {
		if r := parseBody(t, body); r.HasSystem != want {
			t.Errorf("%s: system %v", body, r.HasSystem)
		}
	}
	parseBody(t, `{"model":"m","prompt":{"id":"pmpt_1"}}`)
	parseBody(t, `{"model":"m","previous_response_id":"resp_1","background":false}`)
	for body, param := range map[string]string{
		`{"input":"x"}`:                                                         "model",
		`{"model":"m"}`:                                                         "input",
		`{"model":"m","input":5}`:                                               "input",
		`{"model":"m","input":"x","stream":1}`:                                  "stream",
		`{"model":"m","input":"x","max_output_tokens":"5"}`:                     "max_output_tokens",
		`{"model":"m","input":"x","background":true}`:                           "background",
		`{"model":"m","input":"x","back\u0067round":true}`:                      "background",
		`{"model":"m","input":"x","instructions":["a"]}`:                        "instructions",
		`{"model":"m","input":"x","max_output_tokens":1,"max_output_tokens":2}`: "max_output_tokens",
		`"x"`: "",
	} {
		var bad *llm.BadRequest
		if _, err := New().Parse(llm.OpResponses, "", "", []byte(body)); !errors.As(err, &bad) || bad.Param != param {
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
		"nothing":      {`{"model":"m", "input":"x"}`, llm.Edits{IncludeUsage: true}, `{"model":"m", "input":"x"}`},
		"model":        {`{"model":"m", "input":"x"}`, llm.Edits{Model: "u"}, `{"model":"u", "input":"x"}`},
		"system":       {`{"model":"m", "input":"x"}`, llm.Edits{SystemPrompt: "p"}, `{"model":"m","instructions":"p", "input":"x"}`},
		"system null":  {`{"model":"m","instructions":null,"input":"x"}`, llm.Edits{SystemPrompt: "p"}, `{"model":"m","instructions":"p","input":"x"}`},
		"system there": {`{"model":"m","instructions":"s","input":"x"}`, llm.Edits{SystemPrompt: "p"}, `{"model":"m","instructions":"s","input":"x"}`},
		"system first": {`{"model":"m","instructions":"s","input":"x"}`, llm.Edits{SystemPrompt: "p", SystemFirst: true}, `{"model":"m","instructions":"p\ns","input":"x"}`},
		"before items": {`{"model":"m","input":[{"role":"system","content":"s"}]}`, llm.Edits{SystemPrompt: "p", SystemFirst: true}, `{"model":"m","instructions":"p","input":[{"role":"system","content":"s"}]}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := parseBody(t, c.body)
			if got, err := New().Edit(r, c.edits); err != nil || string(got) != c.want {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	r := parseBody(t, `{"model":"m","input":"x","max_output_tokens":5}`)
	v, err := New().Reparse(r, "", []byte(`{"model":"u","input":"x","max_output_tokens":50}`))
	if err != nil || v.Model != "m" || v.MaxOutput != 50 {
		t.Errorf("%+v %v", v, err)
	}
}

const stream = `event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","output":[],"usage":null}}

event: response.output_item.done
data: {"type":"response.output_item.done","output_index":0,"item":{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"x"}}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"Hello, world!!"}

event: response.output_item.done
data: {"type":"response.output_item.done","output_index":1,"item":{"id":"msg_1","type":"message","content":[{"type":"output_text","text":"Hello, world!!"}]}}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","error":null,"output":[{"type":"web_search_call"},{"type":"message","content":[{"type":"output_text","text":"Hello, world!!"}]}],"usage":{"input_tokens":328,"input_tokens_details":{"cached_tokens":100},"output_tokens":52,"output_tokens_details":{"reasoning_tokens":30},"total_tokens":380}}}

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
	for tool, name := range map[string]string{"web_search": "web_search", "web_search_preview": "web_search_preview", "web_search_preview_2025_03_11": "web_search_preview"} {
		tap := New().NewTap(parseBody(t, `{"model":"m","input":"x","tools":[{"type":"`+tool+`"}]}`))
		if v := events(t, tap, stream); v != llm.Pass || !tap.Complete() {
			t.Errorf("%v %v", v, tap.Complete())
		}
		u, ok := tap.Usage()
		if !ok || !reflect.DeepEqual(u, llm.Usage{Input: 228, CacheRead: 100, Output: 52, Reasoning: 30, Tools: []llm.ToolCalls{{Name: name, Calls: 1}}}) {
			t.Errorf("%+v %v", u, ok)
		}
		if e := tap.Estimate(); e.Output != 4 || len(e.Tools) != 1 {
			t.Errorf("estimate %+v", e)
		}
	}
	ends := map[string]struct {
		in       string
		complete bool
		last     llm.Verdict
	}{
		"cut":        {strings.SplitAfter(stream, "\n\n")[2], false, llm.Pass},
		"incomplete": {`data: {"type":"response.incomplete","response":{"status":"incomplete","usage":{"input_tokens":1,"output_tokens":1}}}` + "\n\n", true, llm.Pass},
		"failed":     {`data: {"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"},"usage":null}}` + "\n\n", false, llm.Failed},
		"error":      {`data: {"type":"error","code":"x","message":"y"}` + "\n\n", false, llm.Failed},
		"bare error": {`data: {"error":{"message":"y"}}` + "\n\n", false, llm.Failed},
		"no JSON":    {"data: x\n\n", false, llm.Pass},
	}
	for name, c := range ends {
		tap := New().NewTap(parseBody(t, `{"model":"m","input":"x"}`))
		if v := events(t, tap, c.in); v != c.last || tap.Complete() != c.complete {
			t.Errorf("%s: %v %v", name, v, tap.Complete())
		}
	}
}

func TestBody(t *testing.T) {
	tap := New().NewTap(parseBody(t, `{"model":"m","input":"x"}`))
	tap.Body("application/json", []byte(`{"id":"resp_1","status":"completed","error":null,"output":[{"type":"file_search_call"},{"type":"image_generation_call","result":"AAAA"},{"type":"file_search_call"},{"type":"message","content":[{"type":"output_text","text":"abcdefg"}]}],"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15}}`))
	u, ok := tap.Usage()
	want := llm.Usage{Input: 10, Output: 5, Tools: []llm.ToolCalls{{Name: "file_search", Calls: 2}, {Name: "image_generation", Calls: 1}}}
	if !ok || !reflect.DeepEqual(u, want) || !tap.Complete() {
		t.Errorf("%+v %v", u, ok)
	}
	if e := tap.Estimate(); e.Output != 2 {
		t.Errorf("estimate %+v", e)
	}
}

func TestWebSearchTool(t *testing.T) {
	for tools, want := range map[string]string{
		`[{"type":"web_search"}]`: "web_search",
		`[{"type":"function","name":"web_search_preview"},{"type":"web_search"}]`: "web_search",
		`[{"type":"web_search_preview_2025_03_11"}]`:                              "web_search_preview",
		`[{"type":"web\u005fsearch_preview"}]`:                                    "web_search_preview",
		`[{"type":"web_search","type":"web_search_preview"}]`:                     "web_search_preview",
	} {
		tap := New().NewTap(parseBody(t, `{"model":"m","input":"x","tools":`+tools+`}`))
		tap.Body("application/json", []byte(`{"output":[{"type":"web_search_call"}],"usage":{"input_tokens":1}}`))
		if u, _ := tap.Usage(); len(u.Tools) != 1 || u.Tools[0].Name != want {
			t.Errorf("%s: %+v", tools, u.Tools)
		}
	}
}

func TestErrors(t *testing.T) {
	e := llm.Error{Status: 502, Type: "new_api_error", Code: "bad_response_body", Message: "cut", Param: "p", RequestID: "r"}
	got := string(New().EncodeStreamError(llm.OpResponses, e))
	if got != "event: error\ndata: {\"type\":\"error\",\"code\":\"bad_response_body\",\"message\":\"cut (request id: r)\",\"param\":\"p\",\"sequence_number\":0}\n\n" {
		t.Errorf("%q", got)
	}
	if !json.Valid(New().EncodeError(e)) {
		t.Error("invalid")
	}
}

// FuzzTap: no answer makes the tap panic or count below zero.
func FuzzTap(f *testing.F) {
	f.Add([]byte(`{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":-2,"input_tokens_details":{"cached_tokens":1e300}}}}`))
	f.Add([]byte(`{"output":[{"type":"web_search_call"},1,[]],"usage":{"input_tokens":5}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		llmtest.CheckTap(t, New(), data, llm.OpResponses)
	})
}

// FuzzEdit: an edited body is valid and differs from the client's in the edits alone.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(`{"model":"m","input":"x","instructions":null,"stream":true}`), "up", "sys\"tem")
	f.Add([]byte(`{"model":"m","input":[{"role":"system","content":"s"}],"instructions":"i","max_output_tokens":1e2}`), "up", "sys\"tem")
	f.Fuzz(func(t *testing.T, body []byte, model, system string) {
		llmtest.CheckEdit(t, New(), llm.OpResponses, "", body, model, system, "model", "instructions")
	})
}
