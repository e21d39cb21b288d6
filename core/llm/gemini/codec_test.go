package gemini

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/llm/llmtest"
)

func parseBody(t testing.TB, op llm.Operation, body string) *llm.Request {
	t.Helper()
	r, err := New().Parse(op, "application/json", "gemini-2.5-pro", []byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r
}

func TestParse(t *testing.T) {
	for _, config := range []string{`"generationConfig":{"maxOutputTokens":99,"candidateCount":2}`, `"generation_config":{"max_output_tokens":99,"candidate_count":2}`} {
		r := parseBody(t, llm.OpStreamGenerate, `{"contents":[{"role":"user","parts":[{"text":"hi"}]}],`+config+`}`)
		if r.Model != "gemini-2.5-pro" || !r.Stream || r.MaxOutput != 99 || r.Choices != 2 || r.HasSystem || r.Input == 0 {
			t.Errorf("%+v", r)
		}
	}
	if r := parseBody(t, llm.OpGenerate, `{"contents":[{}],"generationConfig":{"candidateCount":0},"system_instruction":{"parts":[{"text":"s"}]},"model":"models/gemini-2.5-pro"}`); r.Stream || r.Choices != 1 || !r.HasSystem {
		t.Errorf("%+v", r)
	}
	parseBody(t, llm.OpEmbedContent, `{"content":{"parts":[{"text":"x"}]}}`)
	parseBody(t, llm.OpBatchEmbed, `{"requests":[{"model":"models/gemini-2.5-pro","content":{"parts":[{"text":"x"}]}}]}`)
	parseBody(t, llm.OpGeminiCount, `{"contents":[{}]}`)
	parseBody(t, llm.OpGeminiCount, `{"generateContentRequest":{"model":"models/gemini-2.5-pro","contents":[{}]}}`)
	cases := map[string]struct {
		op    llm.Operation
		body  string
		param string
	}{
		"no contents":     {llm.OpGenerate, `{}`, "contents"},
		"empty contents":  {llm.OpGenerate, `{"contents":[]}`, "contents"},
		"other model":     {llm.OpGenerate, `{"contents":[{}],"model":"models/other"}`, "model"},
		"config a list":   {llm.OpGenerate, `{"contents":[{}],"generationConfig":[]}`, "generationConfig"},
		"max a text":      {llm.OpGenerate, `{"contents":[{}],"generationConfig":{"maxOutputTokens":"9"}}`, "generationConfig.maxOutputTokens"},
		"both spellings":  {llm.OpGenerate, `{"contents":[{}],"generationConfig":{"maxOutputTokens":9,"max_output_tokens":9}}`, "generationConfig.maxOutputTokens"},
		"config twice":    {llm.OpGenerate, `{"contents":[{}],"generationConfig":{},"generation_config":{}}`, "generationConfig"},
		"system a text":   {llm.OpGenerate, `{"contents":[{}],"systemInstruction":"s"}`, "systemInstruction"},
		"many candidates": {llm.OpGenerate, `{"contents":[{}],"generationConfig":{"candidateCount":99999}}`, "generationConfig.candidateCount"},
		"no content":      {llm.OpEmbedContent, `{}`, "content"},
		"no requests":     {llm.OpBatchEmbed, `{"requests":[]}`, "requests"},
		"batch, other":    {llm.OpBatchEmbed, `{"requests":[{"model":"models/gemini-2.5-pro"},{"model":"models/dear"}]}`, "model"},
		"batch, twice":    {llm.OpBatchEmbed, `{"requests":[{"model":"models/gemini-2.5-pro","model":"models/gemini-2.5-pro"}]}`, "model"},
		"batch, no list":  {llm.OpBatchEmbed, `{"requests":[1]}`, "requests"},
		"count nothing":   {llm.OpGeminiCount, `{}`, "contents"},
		"count, other":    {llm.OpGeminiCount, `{"generateContentRequest":{"model":"models/dear"}}`, "model"},
		"a list":          {llm.OpGenerate, `[]`, ""},
	}
	for name, c := range cases {
		var bad *llm.BadRequest
		if _, err := New().Parse(c.op, "", "gemini-2.5-pro", []byte(c.body)); !errors.As(err, &bad) || bad.Param != c.param {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New().Parse(llm.OpGenerate, "", "", []byte(`{"contents":[{}]}`)); err == nil {
		t.Error("no model in the path")
	}
}

func TestEdit(t *testing.T) {
	cases := map[string]struct {
		op    llm.Operation
		body  string
		edits llm.Edits
		want  string
	}{
		"nothing":         {llm.OpGenerate, `{"contents":[ {} ]}`, llm.Edits{Model: "up", IncludeUsage: true}, `{"contents":[ {} ]}`},
		"model in body":   {llm.OpGenerate, `{"model":"models/gemini-2.5-pro","contents":[{}]}`, llm.Edits{Model: "up"}, `{"model":"models/up","contents":[{}]}`},
		"model in batch":  {llm.OpBatchEmbed, `{"requests":[ {"model":"models/gemini-2.5-pro","content":{}}, {"content":{},"model":"gemini-2.5-pro"}]}`, llm.Edits{Model: "up"}, `{"requests":[ {"model":"models/up","content":{}}, {"content":{},"model":"up"}]}`},
		"model in count":  {llm.OpGeminiCount, `{"generateContentRequest":{"model":"models/gemini-2.5-pro"}}`, llm.Edits{Model: "up"}, `{"generateContentRequest":{"model":"models/up"}}`},
		"system":          {llm.OpGenerate, `{"contents":[{}] ,"x":0}`, llm.Edits{SystemPrompt: "p"}, `{"contents":[{}],"systemInstruction":{"parts":[{"text":"p"}]} ,"x":0}`},
		"system null":     {llm.OpGenerate, `{"systemInstruction":null,"contents":[{}]}`, llm.Edits{SystemPrompt: "p"}, `{"systemInstruction":{"parts":[{"text":"p"}]},"contents":[{}]}`},
		"system no parts": {llm.OpGenerate, `{"system_instruction":{"role":"user"},"contents":[{}]}`, llm.Edits{SystemPrompt: "p"}, `{"system_instruction":{"parts":[{"text":"p"}],"role":"user"},"contents":[{}]}`},
		"system there":    {llm.OpGenerate, `{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{}]}`, llm.Edits{SystemPrompt: "p"}, `{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{}]}`},
		"system first":    {llm.OpGenerate, `{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{}]}`, llm.Edits{SystemPrompt: "p", SystemFirst: true}, `{"systemInstruction":{"parts":[{"text":"p"},{"text":"s"}]},"contents":[{}]}`},
		"one part":        {llm.OpGenerate, `{"systemInstruction":{"parts":{"text":"s"}},"contents":[{}]}`, llm.Edits{SystemPrompt: "p", SystemFirst: true}, `{"systemInstruction":{"parts":[{"text":"p"},{"text":"s"}]},"contents":[{}]}`},
		"not embeddings":  {llm.OpEmbedContent, `{"content":{}}`, llm.Edits{SystemPrompt: "p"}, `{"content":{}}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := parseBody(t, c.op, c.body)
			got, err := New().Edit(r, c.edits)
			if err != nil || string(got) != c.want {
				t.Errorf("got %s, %v", got, err)
			}
			v, err := New().Reparse(r, "", got)
			if err != nil || v.Model != "gemini-2.5-pro" {
				t.Errorf("reparse: %v", err)
			}
		})
	}
}

const array = `[{
  "candidates": [{"content": {"parts": [{"text": "Hello!!"}],"role": "model"},"index": 0}],
  "usageMetadata": {"promptTokenCount": 10,"candidatesTokenCount": 1,"totalTokenCount": 11}
}
,
{
  "candidates": [{"content": {"parts": [{"functionCall":{"name":"f","args":{"a":"b"}}}],"role": "model"},"finishReason": "STOP","index": 0}],
  "usageMetadata": {"promptTokenCount": 1000,"cachedContentTokenCount": 600,"toolUsePromptTokenCount":50,"candidatesTokenCount": 20,"thoughtsTokenCount": 30,"totalTokenCount": 1100,
    "promptTokensDetails": [{"modality":"TEXT","tokenCount":700},{"modality":"AUDIO","tokenCount":200},{"modality":"IMAGE","tokenCount":100}],
    "cacheTokensDetails": [{"modality":"TEXT","tokenCount":500},{"modality":"AUDIO","tokenCount":100}]}
}
]
`

func feed(t testing.TB, tap llm.Tap, r *llm.FrameReader) (last llm.Verdict) {
	t.Helper()
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Data != nil {
			last = tap.Event(f.Data)
		}
	}
}

func TestSeveralCandidates(t *testing.T) {
	end := `{"finishReason":"STOP","content":{"parts":[{"text":"a"}]}}`
	for in, want := range map[string]bool{end: false, end + "," + end: true, end + `,{"index":1}`: false} {
		tap := New().NewTap(&llm.Request{Operation: llm.OpStreamGenerate, Choices: 2})
		if tap.Event([]byte(`{"candidates":[` + in + `]}`)); tap.Complete() != want {
			t.Errorf("%s: %v", in, tap.Complete())
		}
	}
}

func TestStream(t *testing.T) {
	tap := New().NewTap(&llm.Request{Operation: llm.OpStreamGenerate, Choices: 1, Input: 3})
	if v := feed(t, tap, llm.NewArrayReader(strings.NewReader(array), 1<<20)); v != llm.Pass || !tap.Complete() {
		t.Errorf("%v %v", v, tap.Complete())
	}
	// 1,050 of prompt: 600 cached (100 of it sound), 100 sound, 100 image
	want := llm.Usage{Input: 250, CacheRead: 600, AudioInput: 100, ImageInput: 100, Output: 50, Reasoning: 30}
	if u, ok := tap.Usage(); !ok || !reflect.DeepEqual(u, want) || u.Prompt() != 1050 {
		t.Errorf("%+v %v", u, ok)
	}
	sse := "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"abcdefg\"}]}}]}\r\n\r\n"
	tap = New().NewTap(&llm.Request{Operation: llm.OpStreamGenerate, Choices: 1, Input: 3})
	feed(t, tap, llm.NewSSEReader(strings.NewReader(sse), 1<<20))
	if e := tap.Estimate(); e.Input != 3 || e.Output != 2 || tap.Complete() {
		t.Errorf("%+v", e)
	}
	if v := tap.Event([]byte(`{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}`)); v != llm.Failed {
		t.Error(v)
	}
	tap = New().NewTap(&llm.Request{Operation: llm.OpStreamGenerate, Choices: 1})
	if tap.Event([]byte(`{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}}`)); !tap.Complete() {
		t.Error("a blocked prompt ends")
	}
}

func TestUsageDialects(t *testing.T) {
	cases := map[string]struct {
		op   llm.Operation
		body string
		want llm.Usage
		ok   bool
	}{
		"plain":       {llm.OpGenerate, `{"candidates":[],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":7,"totalTokenCount":12}}`, llm.Usage{Input: 5, Output: 7}, true},
		"speech":      {llm.OpGenerate, `{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":70,"candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":70}]}}`, llm.Usage{Input: 5, AudioOutput: 70}, true},
		"drawing":     {llm.OpGenerate, `{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":1290,"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":1290}]}}`, llm.Usage{Input: 5, Output: 1290}, true},
		"total alone": {llm.OpGenerate, `{"usageMetadata":{"promptTokenCount":5,"thoughtsTokenCount":3,"totalTokenCount":20}}`, llm.Usage{Input: 5, Output: 15, Reasoning: 3}, true},
		"search":      {llm.OpGenerate, `{"candidates":[{"groundingMetadata":{"webSearchQueries":["a","b"]}}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":7}}`, llm.Usage{Input: 5, Output: 7, Tools: []llm.ToolCalls{{Name: "google_search", Calls: 1}}}, true},
		"no search":   {llm.OpGenerate, `{"candidates":[{"groundingMetadata":{}}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":7}}`, llm.Usage{Input: 5, Output: 7}, true},
		"embedding":   {llm.OpEmbedContent, `{"embedding":{"values":[0.1]}}`, llm.Usage{}, false},
		"count":       {llm.OpGeminiCount, `{"totalTokens":31}`, llm.Usage{Input: 31}, true},
	}
	for name, c := range cases {
		tap := New().NewTap(&llm.Request{Operation: c.op, Choices: 1})
		tap.Body("application/json", []byte(c.body))
		if u, ok := tap.Usage(); ok != c.ok || !reflect.DeepEqual(u, c.want) || !tap.Complete() {
			t.Errorf("%s: %+v %v", name, u, ok)
		}
	}
}

func TestErrors(t *testing.T) {
	e := llm.Error{Status: 429, Type: "RESOURCE_EXHAUSTED", Message: "slow", RequestID: "r1", RetryAfter: 1500 * time.Millisecond}
	if got := string(New().EncodeError(e)); got != `{"error":{"code":429,"message":"slow (request id: r1)","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"2s"}]}}` {
		t.Error(got)
	}
	if got := string(New().EncodeStreamError(llm.OpStreamGenerate, llm.Error{Status: 500, Type: "INTERNAL"})); got != "data: {\"error\":{\"code\":500,\"message\":\"Internal Server Error\",\"status\":\"INTERNAL\"}}\n\n" {
		t.Errorf("%q", got)
	}
}

func TestFraming(t *testing.T) {
	for _, c := range []struct {
		op   llm.Operation
		ct   string
		want llm.Framing
	}{{llm.OpStreamGenerate, "text/event-stream", llm.FrameSSE}, {llm.OpStreamGenerate, "application/json; charset=UTF-8", llm.FrameArray}, {llm.OpGenerate, "application/json", llm.FrameNone}} {
		if got := New().Framing(c.op, c.ct); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func BenchmarkTap(b *testing.B) {
	tap, data := New().NewTap(&llm.Request{Operation: llm.OpStreamGenerate, Choices: 1}), []byte(`{"candidates":[{"content":{"parts":[{"text":"Hello there, this is"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":1,"totalTokenCount":11,"promptTokensDetails":[{"modality":"TEXT","tokenCount":10}]},"modelVersion":"gemini-2.5-pro","responseId":"abc"}`)
	b.ReportAllocs()
	for b.Loop() {
		if tap.Event(data) != llm.Pass {
			b.Fatal()
		}
	}
}

// FuzzTap: no answer makes the tap panic or count below zero.
func FuzzTap(f *testing.F) {
	f.Add([]byte(`{"usageMetadata":{"promptTokenCount":1,"cachedContentTokenCount":9e99,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":-1},7]}}`))
	f.Add([]byte(`{"candidates":[{"groundingMetadata":{"webSearchQueries":["a"]}}],"totalTokens":5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		llmtest.CheckTap(t, New(), data, llm.OpGenerate, llm.OpStreamGenerate, llm.OpGeminiCount)
	})
}

// FuzzEdit: an edited body is valid and differs from the client's in the edits alone.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(`{"model":"models/g","contents":[{}],"systemInstruction":{"parts":{"text":"s"}}}`), "up", "sys\"tem")
	f.Add([]byte(`{"contents":{"parts":[]},"system_instruction":{"parts":[]},"generation_config":{"max_output_tokens":5}}`), "up", "sys\"tem")
	f.Add([]byte(`{"contents":[1],"systemInstruction":{ }}`), "up", "sys\"tem")
	f.Fuzz(func(t *testing.T, body []byte, model, system string) {
		llmtest.CheckEdit(t, New(), llm.OpGenerate, "g", body, model, system, "model", "systemInstruction", "system_instruction")
	})
}
