package openai

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/llm/llmtest"
)

// run feeds a recorded stream to a tap and returns the verdict of each payload.
func run(t testing.TB, tap llm.Tap, stream string) (verdicts []llm.Verdict) {
	t.Helper()
	r := llm.NewSSEReader(strings.NewReader(stream), 1<<20)
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return verdicts
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Data != nil {
			verdicts = append(verdicts, tap.Event(f.Data))
		}
	}
}

const chatStream = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hello \"usage\" there"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":192,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}

data: [DONE]

`

func TestChatStream(t *testing.T) {
	for _, asked := range []bool{false, true} {
		r := &llm.Request{Operation: llm.OpChat, Model: "gpt-4o", Choices: 1, WantUsage: asked, Input: 7}
		tap := New().NewTap(r)
		got := run(t, tap, chatStream)
		want := []llm.Verdict{llm.Pass, llm.Pass, llm.Pass, llm.Withhold, llm.Pass}
		if asked {
			want[3] = llm.Pass
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("verdicts %v", got)
		}
		u, ok := tap.Usage()
		if !ok || !reflect.DeepEqual(u, llm.Usage{Input: 86, CacheRead: 1920, Output: 300, Reasoning: 192}) || u.Prompt() != 2006 {
			t.Errorf("usage %+v %v", u, ok)
		}
		if e := tap.Estimate(); e.Input != 7 || e.Output != (6*21+20)/21 {
			t.Errorf("estimate %+v", e)
		}
		if !tap.Complete() {
			t.Error("not complete")
		}
	}
}

func TestChatStreamEnds(t *testing.T) {
	chunk := func(rest string) string {
		return `data: {"choices":[{"index":0,"delta":{"content":"x"},` + rest + "}]}\n\n"
	}
	cases := map[string]struct {
		stream   string
		n        int64
		complete bool
		last     llm.Verdict
	}{
		"cut":                 {chunk(`"finish_reason":null`), 1, false, llm.Pass},
		"no done":             {chunk(`"finish_reason":"length"`), 1, true, llm.Pass},
		"two at once":         {`data: {"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":"stop"}]}` + "\n\n", 2, true, llm.Pass},
		"two of three":        {`data: {"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":"stop"},{"index":2,"finish_reason":null}]}` + "\n\n", 3, false, llm.Pass},
		"one of two":          {chunk(`"finish_reason":"stop"`), 2, false, llm.Pass},
		"two of two":          {chunk(`"finish_reason":"stop"`) + chunk(`"finish_reason":"stop"`), 2, true, llm.Pass},
		"done":                {chunk(`"finish_reason":null`) + "data: [DONE]\n\n", 1, true, llm.Pass},
		"error":               {chunk(`"finish_reason":null`) + `data: {"error":{"message":"overloaded","type":"server_error","code":null}}` + "\n\n", 1, false, llm.Failed},
		"error by type":       {`data: {"type":"error","message":"x"}` + "\n\n", 1, false, llm.Failed},
		"null error":          {`data: {"error":null,"choices":[]}` + "\n\n", 1, false, llm.Pass},
		"usage on last chunk": {`data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}` + "\n\n", 1, true, llm.Pass},
		"usage, no choices":   {`data: {"usage":{"prompt_tokens":1,"completion_tokens":2}}` + "\n\n", 1, false, llm.Withhold},
		"filter results":      {`data: {"choices":[],"prompt_filter_results":[]}` + "\n\n", 1, false, llm.Pass},
		"no JSON":             {"data: {broken\n\n", 1, false, llm.Pass},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tap := New().NewTap(&llm.Request{Operation: llm.OpChat, Choices: c.n})
			got := run(t, tap, c.stream)
			if tap.Complete() != c.complete || got[len(got)-1] != c.last {
				t.Errorf("complete %v, verdicts %v", tap.Complete(), got)
			}
		})
	}
}

func TestStreamEstimate(t *testing.T) {
	tap := New().NewTap(&llm.Request{Operation: llm.OpChat, Choices: 1, Input: 3})
	run(t, tap, `data: {"choices":[{"index":0,"delta":{"reasoning_content":"1234567"}}]}

data: {"choices":[{"index":0,"delta":{"content":"日本"}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_abcdef","type":"function","function":{"name":"get","arguments":"{\"a\":1}"}}]}}]}

`)
	// 7 + 3 + 7 ASCII, 6 wide
	if _, ok := tap.Usage(); ok {
		t.Error("usage out of nothing")
	}
	if e := tap.Estimate(); e.Input != 3 || e.Output != (6*17+7*6+20)/21 {
		t.Errorf("%+v", e)
	}
}

func TestUsageDialects(t *testing.T) {
	body := func(usage string) string {
		return `{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":` + usage + `}`
	}
	cases := map[string]struct {
		op   llm.Operation
		body string
		want llm.Usage
	}{
		"plain":           {llm.OpChat, body(`{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}`), llm.Usage{Input: 10, Output: 5}},
		"audio":           {llm.OpChat, body(`{"prompt_tokens":100,"completion_tokens":60,"prompt_tokens_details":{"cached_tokens":20,"text_tokens":50,"audio_tokens":30},"completion_tokens_details":{"text_tokens":10,"audio_tokens":50,"reasoning_tokens":0}}`), llm.Usage{Input: 50, CacheRead: 20, AudioInput: 30, Output: 10, AudioOutput: 50}},
		"image input":     {llm.OpChat, body(`{"prompt_tokens":100,"completion_tokens":6,"prompt_tokens_details":{"image_tokens":70}}`), llm.Usage{Input: 30, ImageInput: 70, Output: 6}},
		"cache written":   {llm.OpChat, body(`{"prompt_tokens":100,"completion_tokens":6,"prompt_tokens_details":{"cached_tokens":40,"cached_creation_tokens":50}}`), llm.Usage{Input: 10, CacheRead: 40, CacheWrite: 50, Output: 6}},
		"OpenRouter":      {llm.OpChat, body(`{"prompt_tokens":100,"completion_tokens":6,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":50}}`), llm.Usage{Input: 50, CacheWrite: 50, Output: 6}},
		"DeepSeek":        {llm.OpChat, body(`{"prompt_tokens":100,"completion_tokens":6,"total_tokens":106,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}`), llm.Usage{Input: 36, CacheRead: 64, Output: 6}},
		"DeepSeek, both":  {llm.OpChat, body(`{"prompt_tokens":100,"completion_tokens":6,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36,"prompt_tokens_details":{"cached_tokens":64}}`), llm.Usage{Input: 36, CacheRead: 64, Output: 6}},
		"Moonshot":        {llm.OpChat, body(`{"prompt_tokens":100,"completion_tokens":6,"total_tokens":106,"cached_tokens":90}`), llm.Usage{Input: 10, CacheRead: 90, Output: 6}},
		"reasoning":       {llm.OpChat, body(`{"prompt_tokens":9,"completion_tokens":300,"total_tokens":309,"completion_tokens_details":{"reasoning_tokens":256}}`), llm.Usage{Input: 9, Output: 300, Reasoning: 256}},
		"xAI":             {llm.OpChat, body(`{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}`), llm.Usage{Input: 32, Output: 103, Reasoning: 94}},
		"cache beyond":    {llm.OpChat, body(`{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":100}}`), llm.Usage{CacheRead: 100, Output: 5}},
		"embeddings":      {llm.OpEmbeddings, `{"object":"list","data":[{"embedding":[0.1,-2e-3]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}`, llm.Usage{Input: 8}},
		"rerank, Jina":    {llm.OpRerank, `{"model":"j","usage":{"total_tokens":815},"results":[{"index":0,"relevance_score":0.9,"document":{"text":"x"}}]}`, llm.Usage{Input: 815}},
		"rerank, Cohere":  {llm.OpRerank, `{"id":"1","results":[],"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":44,"search_units":1}}}`, llm.Usage{Input: 44}},
		"rerank, Silicon": {llm.OpRerank, `{"id":"1","results":[],"tokens":{"input_tokens":45,"output_tokens":0}}`, llm.Usage{Input: 45}},
		"images":          {llm.OpImageGenerations, `{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}`, llm.Usage{Input: 10, ImageInput: 40, Output: 50}},
		"transcription":   {llm.OpTranscriptions, `{"text":"Hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":10,"audio_tokens":4},"output_tokens":31,"total_tokens":45}}`, llm.Usage{Input: 10, AudioInput: 4, Output: 31}},
		"by duration":     {llm.OpTranscriptions, `{"text":"Hi","usage":{"type":"duration","seconds":9}}`, llm.Usage{Input: 150}},
		"verbose":         {llm.OpTranscriptions, `{"task":"transcribe","language":"english","duration":8.470000267028809,"text":"Hi","segments":[]}`, llm.Usage{Input: 150}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tap := New().NewTap(&llm.Request{Operation: c.op, Model: "m", Choices: 1})
			tap.Body("application/json; charset=utf-8", []byte(c.body))
			if u, ok := tap.Usage(); !ok || !reflect.DeepEqual(u, c.want) {
				t.Errorf("got %+v %v, want %+v", u, ok, c.want)
			}
			if !tap.Complete() {
				t.Error("not complete")
			}
		})
	}
}

func TestNoUsage(t *testing.T) {
	cases := map[string]struct {
		op        llm.Operation
		ct, body  string
		want      llm.Usage
		completed bool
	}{
		"zeros":       {llm.OpChat, "application/json", `{"choices":[{"message":{"content":"abcdefg"}}],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, llm.Usage{Input: 5, Output: 2}, true},
		"null":        {llm.OpChat, "application/json", `{"choices":[{"message":{"content":"abcdefg"}}],"usage":null}`, llm.Usage{Input: 5, Output: 2}, true},
		"completions": {llm.OpCompletions, "application/json", `{"choices":[{"text":"abcdefg"}]}`, llm.Usage{Input: 5, Output: 2}, true},
		"moderations": {llm.OpModerations, "application/json", `{"results":[{"flagged":false}]}`, llm.Usage{Input: 5}, true},
		"sound":       {llm.OpSpeech, "audio/mpeg", "\xff\xfb\x90\x00", llm.Usage{Input: 5}, true},
		"subtitles":   {llm.OpTranscriptions, "text/plain; charset=utf-8", "abcdefg", llm.Usage{Input: 5, Output: 2}, true},
		"cut":         {llm.OpChat, "application/json", `{"choices":[{"mess`, llm.Usage{Input: 5}, false},
		"error":       {llm.OpChat, "application/json", `{"error":{"message":"x"}}`, llm.Usage{Input: 5}, false},
		"search":      {llm.OpChat, "application/json", `{"choices":[]}`, llm.Usage{Input: 5, Tools: []llm.ToolCalls{{Name: "web_search_preview", Calls: 1}}}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := &llm.Request{Operation: c.op, Model: "m", Choices: 1, Input: 5}
			if name == "search" {
				r.Model = "gpt-4o-search-preview-2025-03-11"
			}
			tap := New().NewTap(r)
			tap.Body(c.ct, []byte(c.body))
			if u, ok := tap.Usage(); ok {
				t.Errorf("usage %+v", u)
			}
			if got := tap.Estimate(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if tap.Complete() != c.completed {
				t.Errorf("complete %v", tap.Complete())
			}
		})
	}
}

func TestTypedStreams(t *testing.T) {
	cases := map[string]struct {
		op     llm.Operation
		stream string
		want   llm.Usage
	}{
		"images": {llm.OpImageGenerations, `event: image_generation.partial_image
data: {"type":"image_generation.partial_image","b64_json":"AAAA","partial_image_index":0}

event: image_generation.completed
data: {"type":"image_generation.completed","b64_json":"BBBB","usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}

`, llm.Usage{Input: 10, ImageInput: 40, Output: 50}},
		"transcription": {llm.OpTranscriptions, `data: {"type":"transcript.text.delta","delta":"Hel"}

data: {"type":"transcript.text.done","text":"Hello","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}

`, llm.Usage{AudioInput: 14, Output: 45}},
		"speech": {llm.OpSpeech, `data: {"type":"speech.audio.delta","audio":"AAAA"}

data: {"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}

`, llm.Usage{Input: 14, Output: 101}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tap := New().NewTap(&llm.Request{Operation: c.op, Choices: 1})
			for _, v := range run(t, tap, c.stream) {
				if v != llm.Pass {
					t.Error(v)
				}
			}
			if u, ok := tap.Usage(); !ok || !reflect.DeepEqual(u, c.want) || !tap.Complete() {
				t.Errorf("%+v %v %v", u, ok, tap.Complete())
			}
		})
	}
	tap := New().NewTap(&llm.Request{Operation: llm.OpTranscriptions, Choices: 1})
	run(t, tap, "data: {\"type\":\"transcript.text.delta\",\"delta\":\"abcdefg\"}\n\ndata: {\"type\":\"transcript.text.done\",\"text\":\"abcdefg\"}\n\n")
	if e := tap.Estimate(); e.Output != 2 {
		t.Errorf("the text was counted twice: %d", e.Output)
	}
}

func TestFraming(t *testing.T) {
	for ct, want := range map[string]llm.Framing{"text/event-stream; charset=utf-8": llm.FrameSSE, "application/json": llm.FrameNone, "audio/mpeg": llm.FrameNone, "": llm.FrameNone} {
		if got := New().Framing(llm.OpChat, ct); got != want {
			t.Errorf("%s: %v", ct, got)
		}
	}
}

func BenchmarkTap(b *testing.B) {
	for name, chunk := range map[string]string{
		"content": `{"id":"chatcmpl-AbCdEf","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" hello"},"logprobs":null,"finish_reason":null}],"usage":null}`,
		"usage":   `{"id":"chatcmpl-AbCdEf","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" hello"},"finish_reason":null}],"usage":{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306}}`,
	} {
		b.Run(name, func(b *testing.B) {
			tap, data := New().NewTap(&llm.Request{Operation: llm.OpChat, Choices: 1}), []byte(chunk)
			b.ReportAllocs()
			for b.Loop() {
				if tap.Event(data) != llm.Pass {
					b.Fatal()
				}
			}
		})
	}
}

// BenchmarkStream is what a chunk costs from its bytes to its verdict.
func BenchmarkStream(b *testing.B) {
	chunk := `data: {"id":"chatcmpl-AbCdEf","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" hello"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n"
	stream := strings.Repeat(chunk, 1000)
	b.ReportAllocs()
	var r *llm.FrameReader
	var tap llm.Tap
	left := 0
	for b.Loop() {
		if left == 0 {
			r, tap, left = llm.NewSSEReader(strings.NewReader(stream), 1<<20), New().NewTap(&llm.Request{Operation: llm.OpChat, Choices: 1}), 1000
		}
		f, err := r.Next()
		if err != nil || tap.Event(f.Data) != llm.Pass {
			b.Fatal(err)
		}
		left--
	}
}

// FuzzTap: no answer makes the tap panic or count below zero.
func FuzzTap(f *testing.F) {
	f.Add([]byte(`{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":-2,"prompt_tokens_details":{"cached_tokens":1e300},"completion_tokens_details":{"reasoning_tokens":9}}}`))
	f.Add([]byte(`{"usage":{"type":"duration","seconds":1e300}}`))
	f.Add([]byte(`{"meta":{"billed_units":{"input_tokens":5}},"duration":-1}`))
	f.Add([]byte(`[DONE]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		llmtest.CheckTap(t, New(), data, llm.OpChat, llm.OpRerank, llm.OpTranscriptions, llm.OpImageGenerations)
	})
}
