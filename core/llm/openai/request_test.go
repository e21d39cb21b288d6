package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core/llm"
)

func parse(t testing.TB, op llm.Operation, body string) *llm.Request {
	t.Helper()
	r, err := New().Parse(op, "application/json", "", []byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r
}

func TestParse(t *testing.T) {
	type view struct {
		Model         string
		Stream, Usage bool
		Max, N        int64
		System        bool
		Size, Quality string
	}
	cases := map[string]struct {
		op   llm.Operation
		body string
		want view
	}{
		"chat":             {llm.OpChat, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, view{Model: "m", N: 1}},
		"chat, all":        {llm.OpChat, `{"model":"m","messages":[{"role":"developer","content":"x"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":5,"max_completion_tokens":7,"n":3}`, view{"m", true, true, 7, 3, true, "", ""}},
		"chat, nulls":      {llm.OpChat, `{"model":"m","messages":[{"role":"user"}],"stream":null,"stream_options":null,"max_tokens":null,"n":null}`, view{Model: "m", N: 1}},
		"chat, larger old": {llm.OpChat, `{"model":"m","messages":[{"role":"user"}],"max_tokens":50,"max_completion_tokens":7}`, view{Model: "m", N: 1, Max: 50}},
		"completions":      {llm.OpCompletions, `{"model":"m","prompt":"a","n":2,"best_of":5,"max_tokens":9}`, view{Model: "m", N: 5, Max: 9}},
		"several prompts":  {llm.OpCompletions, `{"model":"m","prompt":["a","b","c"],"n":2,"max_tokens":9}`, view{Model: "m", N: 6, Max: 9}},
		"prompt in tokens": {llm.OpCompletions, `{"model":"m","prompt":[1,2,3],"n":2}`, view{Model: "m", N: 2}},
		"many in tokens":   {llm.OpCompletions, `{"model":"m","prompt":[[1,2],[3]],"best_of":2}`, view{Model: "m", N: 4}},
		"a list of one":    {llm.OpCompletions, `{"model":"m","prompt":["a"]}`, view{Model: "m", N: 1}},
		"embeddings":       {llm.OpEmbeddings, `{"model":"m","input":["a","b"]}`, view{Model: "m", N: 1}},
		"moderations":      {llm.OpModerations, `{"input":"a"}`, view{Model: "omni-moderation-latest", N: 1}},
		"rerank":           {llm.OpRerank, `{"model":"m","query":"q","documents":["a",{"text":"b"}]}`, view{Model: "m", N: 1}},
		"images":           {llm.OpImageGenerations, `{"model":"dall-e-3","prompt":"p","n":2,"size":"1024x1792","quality":"hd"}`, view{Model: "dall-e-3", N: 2, Size: "1024x1792", Quality: "hd"}},
		"images, default":  {llm.OpImageGenerations, `{"prompt":"p"}`, view{Model: "dall-e-2", N: 1}},
		"image edit, JSON": {llm.OpImageEdits, `{"model":"gpt-image-1","prompt":"p","images":[{"image_url":"https://x/y.png"}],"stream":true}`, view{Model: "gpt-image-1", N: 1, Stream: true}},
		"speech":           {llm.OpSpeech, `{"model":"gpt-4o-mini-tts","input":"hello","voice":"alloy"}`, view{Model: "gpt-4o-mini-tts", N: 1}},
		"speech, stream":   {llm.OpSpeech, `{"model":"gpt-4o-mini-tts","input":"hello","stream_format":"sse"}`, view{Model: "gpt-4o-mini-tts", N: 1, Stream: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := parse(t, c.op, c.body)
			got := view{r.Model, r.Stream, r.WantUsage, r.MaxOutput, r.Choices, r.HasSystem, r.Image.Size, r.Image.Quality}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if r.Input <= 0 && name != "chat, nulls" {
				t.Errorf("input %d", r.Input)
			}
		})
	}
	if r := parse(t, llm.OpSpeech, `{"model":"tts-1","input":"häl\u006co"}`); r.Input != 5 {
		t.Errorf("tts-1 is priced by characters: %d", r.Input)
	}
}

func TestParseRefusals(t *testing.T) {
	cases := map[string]struct {
		op          llm.Operation
		body, param string
	}{
		"no model":         {llm.OpChat, `{"messages":[{}]}`, "model"},
		"null model":       {llm.OpChat, `{"model":null,"messages":[{}]}`, "model"},
		"model a number":   {llm.OpChat, `{"model":1,"messages":[{}]}`, "model"},
		"model empty":      {llm.OpChat, `{"model":"","messages":[{}]}`, "model"},
		"no messages":      {llm.OpChat, `{"model":"m"}`, "messages"},
		"messages empty":   {llm.OpChat, `{"model":"m","messages":[ ]}`, "messages"},
		"messages a text":  {llm.OpChat, `{"model":"m","messages":"x"}`, "messages"},
		"stream a text":    {llm.OpChat, `{"model":"m","messages":[{}],"stream":"true"}`, "stream"},
		"options a list":   {llm.OpChat, `{"model":"m","messages":[{}],"stream_options":[]}`, "stream_options"},
		"usage a number":   {llm.OpChat, `{"model":"m","messages":[{}],"stream_options":{"include_usage":1}}`, "stream_options.include_usage"},
		"max negative":     {llm.OpChat, `{"model":"m","messages":[{}],"max_tokens":-1}`, "max_tokens"},
		"max a fraction":   {llm.OpChat, `{"model":"m","messages":[{}],"max_completion_tokens":1.5}`, "max_completion_tokens"},
		"max too large":    {llm.OpChat, `{"model":"m","messages":[{}],"max_tokens":2147483649}`, "max_tokens"},
		"n zero":           {llm.OpChat, `{"model":"m","messages":[{}],"n":0}`, "n"},
		"n huge":           {llm.OpChat, `{"model":"m","messages":[{}],"n":100000}`, "n"},
		"a list":           {llm.OpChat, `[]`, ""},
		"no JSON":          {llm.OpChat, `model=m`, ""},
		"no prompt":        {llm.OpCompletions, `{"model":"m"}`, "prompt"},
		"no input":         {llm.OpEmbeddings, `{"model":"m"}`, "input"},
		"no query":         {llm.OpRerank, `{"model":"m","documents":["a"]}`, "query"},
		"no documents":     {llm.OpRerank, `{"model":"m","query":"q","documents":[]}`, "documents"},
		"no image prompt":  {llm.OpImageGenerations, `{"model":"m"}`, "prompt"},
		"no speech":        {llm.OpSpeech, `{"model":"m"}`, "input"},
		"not a form":       {llm.OpTranscriptions, `{"model":"m"}`, ""},
		"another format's": {llm.OpMessages, `{"model":"m"}`, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := New().Parse(c.op, "application/json", "", []byte(c.body))
			var bad *llm.BadRequest
			if !errors.As(err, &bad) || bad.Param != c.param {
				t.Fatalf("got %v, want a bad %q", err, c.param)
			}
		})
	}
}

func TestEdit(t *testing.T) {
	const rest = ` "zero":0, "big":12345678901234567890123 ,"x":"\u00e9\/", "messages":[ {"role":"user","content":"hi"} ] }`
	cases := map[string]struct {
		body  string
		edits llm.Edits
		want  string
	}{
		"nothing":             {`{"model":"m",` + rest, llm.Edits{Model: "m", IncludeUsage: true}, `{"model":"m",` + rest},
		"model":               {`{ "model" : "m" ,` + rest, llm.Edits{Model: "up\"stream"}, `{ "model" : "up\"stream" ,` + rest},
		"usage":               {`{"model":"m","stream": true ,` + rest, llm.Edits{IncludeUsage: true}, `{"model":"m","stream": true,"stream_options":{"include_usage":true} ,` + rest},
		"usage, null":         {`{"model":"m","stream_options":null,"stream":true,` + rest, llm.Edits{IncludeUsage: true}, `{"model":"m","stream_options":{"include_usage":true},"stream":true,` + rest},
		"usage, other option": {`{"model":"m","stream":true,"stream_options":{ "include_obfuscation":false },` + rest, llm.Edits{IncludeUsage: true}, `{"model":"m","stream":true,"stream_options":{"include_usage":true, "include_obfuscation":false },` + rest},
		"usage, empty option": {`{"model":"m","stream":true,"stream_options":{},` + rest, llm.Edits{IncludeUsage: true}, `{"model":"m","stream":true,"stream_options":{"include_usage":true},` + rest},
		"usage, declined":     {`{"model":"m","stream":true,"stream_options":{"include_usage":false},` + rest, llm.Edits{IncludeUsage: true}, `{"model":"m","stream":true,"stream_options":{"include_usage":true},` + rest},
		"usage, asked":        {`{"model":"m","stream":true,"stream_options":{"include_usage":true},` + rest, llm.Edits{IncludeUsage: true}, `{"model":"m","stream":true,"stream_options":{"include_usage":true},` + rest},
		"usage, no stream":    {`{"model":"m","stream":false,` + rest, llm.Edits{IncludeUsage: true}, `{"model":"m","stream":false,` + rest},
		"system":              {`{"model":"m","messages":[ {"role":"user","content":"hi"}]}`, llm.Edits{SystemPrompt: "Be\n\"kind\""}, `{"model":"m","messages":[{"role":"system","content":"Be\n\"kind\""}, {"role":"user","content":"hi"}]}`},
		"system there":        {`{"model":"m","messages":[{"role":"system","content":"s"}]}`, llm.Edits{SystemPrompt: "p"}, `{"model":"m","messages":[{"role":"system","content":"s"}]}`},
		"system before text":  {`{"model":"m","messages":[{"role":"user"},{"content":"s","role":"system"}]}`, llm.Edits{SystemPrompt: "p", SystemFirst: true}, `{"model":"m","messages":[{"role":"user"},{"content":"p\ns","role":"system"}]}`},
		"system before parts": {`{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"s"}]}]}`, llm.Edits{SystemPrompt: "p", SystemFirst: true}, `{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"p"},{"type":"text","text":"s"}]}]}`},
		"system before null":  {`{"model":"m","messages":[{"role":"system","content":null}]}`, llm.Edits{SystemPrompt: "p", SystemFirst: true}, `{"model":"m","messages":[{"role":"system","content":"p"},{"role":"system","content":null}]}`},
		"all": {`{"messages":[{"role":"user","content":"hi"}],"stream":true,"model":"m"}`, llm.Edits{Model: "u", IncludeUsage: true, SystemPrompt: "p"},
			`{"messages":[{"role":"system","content":"p"},{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"model":"u"}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := parse(t, llm.OpChat, c.body)
			got, err := New().Edit(r, c.edits)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.body == c.want && &got[0] != &r.Body[0] {
				t.Error("copied without an edit")
			}
		})
	}
	r := parse(t, llm.OpModerations, `{"input":"x"}`)
	if got, _ := New().Edit(r, llm.Edits{Model: "other"}); string(got) != `{"model":"other","input":"x"}` {
		t.Errorf("default model: %s", got)
	}
}

func TestEditParamsAndReparse(t *testing.T) {
	p, err := llm.ParseParams([]byte(`{"max_tokens":50,"n":4,"stream":false,"model":"forced"}`))
	if err != nil {
		t.Fatal(err)
	}
	r := parse(t, llm.OpChat, `{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":1}`)
	body, err := New().Edit(r, llm.Edits{Model: "u", IncludeUsage: true, Params: p})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"model":"forced","messages":[{"role":"user","content":"x"}],"stream":false,"stream_options":{"include_usage":true},"max_tokens":50,"n":4}`; string(body) != want {
		t.Errorf("got %s", body)
	}
	v, err := New().Reparse(r, "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	if v.Model != "m" || v.Stream || v.MaxOutput != 50 || v.Choices != 4 || v.WantUsage {
		t.Errorf("%+v", v)
	}
	bad, _ := llm.ParseParams([]byte(`{"max_tokens":"many"}`))
	body, _ = New().Edit(r, llm.Edits{Params: bad})
	if _, err := New().Reparse(r, "application/json", body); err == nil {
		t.Error("an unusable override passed")
	}
}

// form writes a form; a pair whose name begins with "@" is a file.
func form(t testing.TB, pairs ...string) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		var err error
		if name, file := strings.CutPrefix(pairs[i], "@"); file {
			var part interface{ Write([]byte) (int, error) }
			if part, err = w.CreateFormFile(name, "f.bin"); err == nil {
				_, err = part.Write([]byte(pairs[i+1]))
			}
		} else {
			err = w.WriteField(pairs[i], pairs[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	return w.FormDataContentType(), b.Bytes()
}

func TestForms(t *testing.T) {
	ct, body := form(t, "@image", "\x89PNG\r\n--x", "prompt", "a cat", "model", "gpt-image-1", "n", "2", "size", "1024x1024", "quality", "high", "stream", "true")
	r, err := New().Parse(llm.OpImageEdits, ct, "", body)
	if err != nil {
		t.Fatal(err)
	}
	if r.Model != "gpt-image-1" || r.Choices != 2 || r.Image.Size != "1024x1024" || r.Image.Quality != "high" || !r.Stream || r.Input != llm.MediaTokens+2 {
		t.Errorf("%+v", r)
	}
	same, err := New().Edit(r, llm.Edits{Model: "gpt-image-1"})
	if err != nil || &same[0] != &body[0] {
		t.Error("copied without an edit")
	}
	got, err := New().Edit(r, llm.Edits{Model: "upstream"})
	if want := bytes.Replace(body, []byte("gpt-image-1"), []byte("upstream"), 1); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	back, err := New().Reparse(r, ct, got)
	if err != nil || back.Model != "gpt-image-1" {
		t.Errorf("%+v %v", back, err)
	}

	ct, body = form(t, "@image[]", "a", "@image[]", "b", "prompt", "p")
	if r, err = New().Parse(llm.OpImageEdits, ct, "", body); err != nil || r.Model != "dall-e-2" {
		t.Fatal(r, err)
	}
	if got, err = New().Edit(r, llm.Edits{Model: "up"}); err != nil {
		t.Fatal(err)
	}
	if r, err = New().Parse(llm.OpImageEdits, ct, "", got); err != nil || r.Model != "up" {
		t.Errorf("model put in: %v %v", r, err)
	}

	wav := "RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00data\x00\x00\x00\x00" + strings.Repeat("\x00", 32000*3)
	ct, body = form(t, "model", "whisper-1", "@file", wav, "language", "en")
	if r, err = New().Parse(llm.OpTranscriptions, ct, "", body); err != nil || r.Input != 50 { // 3 s
		t.Errorf("%v %v", r, err)
	}
}

func TestSeconds(t *testing.T) {
	// MPEG 1 layer III, 44.1 kHz: 1152 samples a frame, of 417 and 208 bytes.
	frame := func(head string, size, n int) string {
		return strings.Repeat(head+strings.Repeat("\x00", size-4), n)
	}
	fast, slow := frame("\xff\xfb\x90\x00", 417, 100), frame("\xff\xfb\x50\x00", 208, 100)
	const each = 1152.0 / 44100
	wav := func(tag, rate string) string {
		return "RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00" + tag + "\x01\x00\x80\x3e\x00\x00" + rate + "\x02\x00\x10\x00data\x00\x00\x00\x00" + strings.Repeat("\x00", 32000*3)
	}
	other := func(n int) float64 { return float64(n) * 8 / 48000 }
	for name, c := range map[string]struct {
		in   string
		want float64
	}{
		"mp3":                         {fast, 100 * each},
		"mp3 with tags":               {"ID3\x04\x00\x00\x00\x00\x00\x0a" + strings.Repeat("t", 10) + fast + "TAG" + strings.Repeat("t", 125), 100 * each},
		"mp3 of changing rate":        {fast[:417] + slow, 101 * each},
		"mp3 cut":                     {fast[:417*99+4], 100 * each},
		"mp3, half rate":              {frame("\xff\xf3\x80\x00", 208, 10), 10 * 576 / 22050.0},
		"mp3 with a gap":              {fast[:417] + "xx\xff" + slow, 101*each + other(3)},
		"one frame before others":     {fast[:417] + strings.Repeat("o", 6000), each + 1},
		"a tag as long as the file":   {"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + strings.Repeat("o", 6000), other(6010)},
		"wav":                         {wav("\x01\x00", "\x00\x7d\x00\x00"), 3},
		"wav with a false byte rate":  {wav("\x01\x00", "\xff\xff\xff\xff"), 3},
		"wav without a byte rate":     {wav("\xfe\xff", "\x00\x00\x00\x00"), 3},
		"wav, compressed, false rate": {wav("\x31\x00", "\xff\xff\xff\xff"), other(96044)},
		"other":                       {strings.Repeat("o", 6000), 1},
		"nothing":                     {"", 0},
		"cut":                         {"RIFF", other(4)},
	} {
		if got := seconds([]byte(c.in)); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestFormRefusals(t *testing.T) {
	for name, pairs := range map[string][]string{
		"model twice":     {"model", "a", "model", "b", "@file", "x"},
		"model in case":   {"Model", "a", "@file", "x"},
		"model a file":    {"@model", "a", "@file", "x"},
		"model two lines": {"model", "a\nb", "@file", "x"},
		"no model":        {"@file", "x"},
		"no file":         {"model", "a"},
		"stream":          {"model", "a", "@file", "x", "stream", "maybe"},
	} {
		t.Run(name, func(t *testing.T) {
			ct, body := form(t, pairs...)
			var bad *llm.BadRequest
			if _, err := New().Parse(llm.OpTranscriptions, ct, "", body); !errors.As(err, &bad) {
				t.Fatal(err)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	e := llm.Error{Status: 429, Type: "new_api_error", Code: "rate_limit_exceeded", Message: "slow \"down\"", RequestID: "r1"}
	if got, want := string(New().EncodeError(e)), `{"error":{"message":"slow \"down\" (request id: r1)","type":"new_api_error","param":null,"code":"rate_limit_exceeded"}}`; got != want {
		t.Errorf("got %s", got)
	}
	if got := string(New().EncodeStreamError(llm.OpChat, llm.Error{Status: 502, Param: "p"})); got != "data: {\"error\":{\"message\":\"Bad Gateway\",\"type\":\"\",\"param\":\"p\",\"code\":\"\"}}\n\n" {
		t.Errorf("got %q", got)
	}
}

// FuzzEdit: an edited body is valid JSON that differs from the client's in the
// edits alone.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"x":1}}`), "up", "system")
	f.Add([]byte(`{"stream_options":null,"messages":[{"role":"system","content":"s"}],"model":"m","stream":true}`), "m", "\x00\"\\\xff")
	f.Add([]byte(`{"messages":[{"role":"system","content":[ ]},{}],"mod\u0065l":"m","stream":true,"big":1e999}`), "a/b", "p")
	f.Fuzz(func(t *testing.T, body []byte, model, system string) {
		r, err := New().Parse(llm.OpChat, "", "", body)
		if err != nil {
			return
		}
		for _, first := range []bool{false, true} {
			out, err := New().Edit(r, llm.Edits{Model: model, IncludeUsage: true, SystemPrompt: system, SystemFirst: first})
			if err != nil {
				t.Fatal(err)
			}
			checkEdit(t, r, out, model, system, first)
		}
	})
}

func checkEdit(t *testing.T, r *llm.Request, out []byte, model, system string, first bool) {
	var before, after map[string]json.RawMessage
	if json.Unmarshal(r.Body, &before) != nil || json.Unmarshal(out, &after) != nil {
		t.Fatalf("invalid: %s", out)
	}
	again, err := New().Parse(llm.OpChat, "", "", out)
	if err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if want := model; want != "" && again.Model != wellFormed(want) {
		t.Fatalf("model %q, want %q", again.Model, want)
	}
	if r.Stream && !again.WantUsage {
		t.Fatal("no usage asked for")
	}
	if system != "" && !again.HasSystem {
		t.Fatal("no system prompt")
	}
	for key, raw := range before {
		switch key {
		case "model", "stream_options", "messages":
			continue
		}
		if string(after[key]) != string(raw) {
			t.Fatalf("%s: %s became %s", key, raw, after[key])
		}
		delete(after, key)
	}
	for key := range after {
		if _, had := before[key]; !had && key != "stream_options" {
			t.Fatalf("new key %s", key)
		}
	}
	var m1, m2 []json.RawMessage
	_, _ = json.Unmarshal(before["messages"], &m1), json.Unmarshal(after["messages"], &m2)
	if len(m2) != len(m1) && len(m2) != len(m1)+1 {
		t.Fatalf("%d messages became %d", len(m1), len(m2))
	}
	for i := range m1 { // all but one stay as they are
		if !first && string(m1[len(m1)-1-i]) != string(m2[len(m2)-1-i]) {
			t.Fatalf("message changed: %s", m2[len(m2)-1-i])
		}
	}
}

// wellFormed is a text as JSON can carry it: encoding/json's own round trip.
func wellFormed(s string) string {
	b, _ := json.Marshal(s)
	var out string
	_ = json.Unmarshal(b, &out)
	return out
}

func BenchmarkParseEdit(b *testing.B) {
	for name, size := range map[string]int{"1KB": 1 << 10, "100KB": 100 << 10} {
		body := []byte(`{"model":"gpt-4o","messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"` +
			strings.Repeat("The quick brown fox jumps over the lazy dog. ", size/45) + `"}],"stream":true,"temperature":0.7}`)
		for _, mode := range []string{"parse", "parse+edit"} {
			b.Run(mode+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r, err := New().Parse(llm.OpChat, "application/json", "", body)
					if err != nil {
						b.Fatal(err)
					}
					if mode == "parse" {
						continue
					}
					if _, err := New().Edit(r, llm.Edits{Model: "gpt-4o-2024-11-20", IncludeUsage: true}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
