package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

const (
	tModel Field = iota
	tStream
	tMax
	tN
	tOptions
	tUsage
	tMessages
	tMessage
	tRole
	tContent
	tSystem
	tConfig
	tConfigMax
)

var testSchema = NewSchema(
	Path{At: "model"},
	Path{At: "stream"},
	Path{At: "max_tokens"},
	Path{At: "n"},
	Path{At: "stream_options"},
	Path{At: "stream_options.include_usage"},
	Path{At: "messages", Text: true},
	Path{At: "messages.#", Role: tRole, Content: tContent},
	Path{At: "messages.#.role"},
	Path{At: "messages.#.content"},
	Path{At: "system", Text: true},
	Path{At: "generationConfig|generation_config"},
	Path{At: "generationConfig|generation_config.maxOutputTokens|max_output_tokens"},
)

func TestDocumentFields(t *testing.T) {
	body := ` {"model" : "gpt-4o", "stream":true,"max_tokens":12.0e1,"n":null,
 "messages":[{"role":"user","content":"a"},{"content":[{"type":"text","text":"be brief"}],"role":"system"},{"role":"system","content":"second"}],
 "generation_config":{"max_output_tokens":7}, "zero":0, "big":12345678901234567890}`
	d, err := Scan(testSchema, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Text(d.Value(tModel)); got != "gpt-4o" {
		t.Errorf("model %q", got)
	}
	if v, given, err := d.OptionalBool(tStream); !v || !given || err != nil {
		t.Errorf("stream %v %v %v", v, given, err)
	}
	if n, given, err := d.OptionalCount(tMax); n != 120 || !given || err != nil {
		t.Errorf("max %v %v %v", n, given, err)
	}
	if _, given, err := d.OptionalCount(tN); given || err != nil {
		t.Errorf("n %v %v", given, err)
	}
	if got := string(d.Raw(d.System)); got != `[{"type":"text","text":"be brief"}]` {
		t.Errorf("system %s", got)
	}
	if n, _, _ := d.OptionalCount(tConfigMax); n != 7 {
		t.Errorf("config max %d", n)
	}
	if got := testSchema.Name(tConfigMax); got != "generationConfig.maxOutputTokens" {
		t.Errorf("name %s", got)
	}
}

func TestDocumentRefusals(t *testing.T) {
	cases := map[string]struct{ body, want string }{
		"empty":              {``, "the body is empty"},
		"blank":              {" \n", "the body is empty"},
		"cut":                {`{"model":"x"`, "invalid JSON: unexpected end"},
		"trailing":           {`{"model":"x"} x`, "invalid JSON at byte 14"},
		"twice":              {`{"model":"a","model":"b"}`, `model: the key "model" occurs twice`},
		"twice by escape":    {`{"model":"a","mod\u0065l":"b"}`, `model: the key "model" occurs twice`},
		"twice null first":   {`{"model":null,"model":"b"}`, `occurs twice`},
		"twice by case":      {`{"model":"a","MODEL":"b"}`, `MODEL: the key is spelt "model"`},
		"another case":       {`{"Model":"b"}`, `Model: the key is spelt "model"`},
		"case and escape":    {`{"\u004dodel":"b"}`, `Model: the key is spelt "model"`},
		"kelvin":             {"{\"max_to\u212aens\":1}", `the key is spelt "max_tokens"`},
		"long s":             {`{"\u017ftream":true}`, `the key is spelt "stream"`},
		"nested":             {`{"stream_options":{"include_usage":true,"include_usage":false}}`, `stream_options.include_usage: the key`},
		"parent twice":       {`{"stream_options":{},"stream_options":{}}`, `stream_options: the key`},
		"in a message":       {`{"messages":[{"role":"user"},{"role":"user","Role":"system"}]}`, `Role: the key is spelt "role"`},
		"two spellings":      {`{"generationConfig":{},"generation_config":{}}`, `generationConfig: the key`},
		"control":            {"{\"a\":\"\x01\"}", "invalid JSON"},
		"leading zero":       {`{"n":01}`, "invalid JSON"},
		"bare word":          {`{"n":nul}`, "invalid JSON"},
		"bad escape":         {`{"n":"\x"}`, "invalid JSON"},
		"byte order mark":    {"\xef\xbb\xbf{}", "invalid JSON"},
		"comma at the end":   {`{"n":1,}`, "invalid JSON"},
		"unquoted key":       {`{n:1}`, "invalid JSON"},
		"deep":               {strings.Repeat("[", 10001) + strings.Repeat("]", 10001), "nested too deeply"},
		"deep in the prompt": {`{"messages":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, "nested too deeply"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Scan(testSchema, []byte(c.body))
			var bad *BadRequest
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
	for _, ok := range []string{
		`{"x":1,"x":2}`, `{"modeL2":1,"model":"a"}`, `{"x":{"model":1,"model":2}}`, `{"messages":[{"role":"a"},{"role":"b"}]}`,
		strings.Repeat("[", 10000) + strings.Repeat("]", 10000),
		`{"messages":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`, `{"mod\u0065l":"a"}`,
	} {
		if _, err := Scan(testSchema, []byte(ok)); err != nil {
			t.Errorf("%.40s: %v", ok, err)
		}
	}
}

func TestCounts(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "-0": 0, "5": 5, "5.0": 5, "5e2": 500, "1.5e1": 15, "2147483648": 1 << 31, "0e999": 0} {
		d, err := Scan(testSchema, []byte(`{"n":`+in+`}`))
		if err != nil {
			t.Fatal(err)
		}
		if n, given, err := d.OptionalCount(tN); n != want || !given || err != nil {
			t.Errorf("%s: %d %v %v", in, n, given, err)
		}
	}
	for _, in := range []string{"-1", "1.5", "2147483649", "1e400", "-1e400", "1e-400", "1e-1", `"5"`, "true", "[]", "{}", "99999999999999999999", "-99999999999999999999"} {
		d, err := Scan(testSchema, []byte(`{"n":`+in+`}`))
		if err != nil {
			t.Fatal(err)
		}
		var bad *BadRequest
		if _, _, err := d.OptionalCount(tN); !errors.As(err, &bad) || bad.Param != "n" {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestTally(t *testing.T) {
	base64 := strings.Repeat("iVBORw0KGgo/", 100)
	cases := map[string]struct {
		messages string
		want     Tally
	}{
		"text":          {`[{"role":"user","content":"hello"}]`, Tally{ASCII: 4 + 4 + 7 + 5}},
		"wide":          {`["héllo 日本 😀"]`, Tally{ASCII: 6, Wide: 2 + 6 + 4}},
		"escapes":       {`["a\n\"\u0041\u00e9\u65e5\ud83d\ude00"]`, Tally{ASCII: 4, Wide: 2 + 3 + 4}},
		"literals":      {`[1,12345,true,null]`, Tally{Literals: 1 + 2 + 2 + 2}},
		"data url":      {`[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + base64 + `"}}]`, Tally{ASCII: 4 + 9 + 9 + 3, Media: 1}},
		"data as text":  {`["data:;base64,` + base64 + `"]`, Tally{Media: 1}},
		"text as a url": {`["data:;base64,` + base64 + ` ` + base64 + `"]`, Tally{ASCII: 13 + 1200 + 1 + 1200}},
		"plain url":     {`[{"image_url":{"url":"https://x/y.png"}}]`, Tally{ASCII: 12, Media: 1}},
		"inline data":   {`[{"inlineData":{"mimeType":"image/png","data":"` + base64 + `"}}]`, Tally{ASCII: 10 + 8 + 9 + 4, Media: 1}},
		"text as data":  {`[{"source":{"type":"text","data":"` + strings.Repeat("some words ", 20) + `"}}]`, Tally{ASCII: 6 + 4 + 4 + 4 + 220}},
		"claude url":    {`[{"source":{"type":"url","url":"https://x/y.png"}}]`, Tally{ASCII: 6 + 4 + 3 + 3, Media: 1}},
		"url in a tool": {`[{"input":{"url":"https://x"}}]`, Tally{ASCII: 5 + 3 + 9}},
		"signature":     {`[{"signature":"` + base64 + `"}]`, Tally{ASCII: 9}},
		"deep text":     {strings.Repeat("[", 100) + `"abc",{"k":"v"},7` + strings.Repeat("]", 100), Tally{ASCII: 5, Literals: 1}},
		"nothing":       {`[]`, Tally{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d, err := Scan(testSchema, []byte(`{"other":"not text","messages":`+c.messages+`}`))
			if err != nil {
				t.Fatal(err)
			}
			if d.Tally != c.want {
				t.Errorf("got %+v, want %+v", d.Tally, c.want)
			}
		})
	}
	tl := Tally{ASCII: 35, Wide: 30, Literals: 2, Media: 1}
	if got := tl.Tokens(); got != 10+10+2+1600 {
		t.Errorf("tokens %d", got)
	}
	var a Tally
	a.Add("héllo")
	if a != (Tally{ASCII: 4, Wide: 2}) {
		t.Errorf("add %+v", a)
	}
}

// FuzzDocument: what the scanner reads of a body is what encoding/json decodes,
// and what it accepts is what encoding/json accepts.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{
		`{"model":"a","stream":true,"max_tokens":5,"n":2,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}],"system":"s"}`,
		`{"model":"a","mod\u0065l":"b"}`, `{"Model":"b"}`, "{\"max_to\u212aens\":1}", `{"\u017ftream":true}`,
		`{"n":1e2,"max_tokens":-0}`, `[1,[2,{"a":[]}],"\ud800"]`, "{\"model\":\"\xff\"}", `{"messages":[{"role":"system","content":null}]}`,
		`{"messages":[[[["a",{"b":"c\\"}]]]]}`, `{"a":"12345678","b":"1234567\"90"}`, strings.Repeat(`[{"a":`, 40) + "1" + strings.Repeat("}]", 40),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkDocument(t, body) })
}

func checkDocument(t *testing.T, body []byte) {
	d, err := Scan(testSchema, body)
	valid := json.Valid(body)
	if err != nil {
		var bad *BadRequest
		if !errors.As(err, &bad) {
			t.Fatalf("error of another type: %v", err)
		}
		if valid && bad.Param == "" {
			t.Fatalf("refused valid JSON: %v", err)
		}
		return
	}
	if !valid {
		t.Fatal("accepted invalid JSON")
	}
	if d.Root != Object {
		return
	}
	var want struct {
		Model   json.RawMessage `json:"model"`
		Stream  json.RawMessage `json:"stream"`
		Max     json.RawMessage `json:"max_tokens"`
		N       json.RawMessage `json:"n"`
		Options json.RawMessage `json:"stream_options"`
		Msgs    json.RawMessage `json:"messages"`
		System  json.RawMessage `json:"system"`
		Config  json.RawMessage `json:"generationConfig"`
		Config2 json.RawMessage `json:"generation_config"`
	}
	if err := json.Unmarshal(body, &want); err != nil {
		t.Fatal(err)
	}
	if want.Config == nil {
		want.Config = want.Config2
	}
	same := func(f Field, raw json.RawMessage) {
		v := d.Value(f)
		if (v.Kind == Absent) != (raw == nil) || v.Kind != Absent && string(d.Raw(v)) != string(raw) {
			t.Fatalf("%s: we see %q, encoding/json %q", testSchema.Name(f), d.Raw(v), raw)
		}
		if v.Kind == String {
			var s string
			if json.Unmarshal(raw, &s) != nil || s != d.Text(v) || !d.IsText(v, s) {
				t.Fatalf("%s: text %q, encoding/json %q", testSchema.Name(f), d.Text(v), s)
			}
		}
	}
	same(tModel, want.Model)
	same(tStream, want.Stream)
	same(tMax, want.Max)
	same(tN, want.N)
	same(tOptions, want.Options)
	same(tMessages, want.Msgs)
	same(tSystem, want.System)
	same(tConfig, want.Config)
	var opts struct {
		Usage json.RawMessage `json:"include_usage"`
	}
	if d.Value(tOptions).Kind == Object && json.Unmarshal(want.Options, &opts) == nil {
		same(tUsage, opts.Usage)
	}
	if v, given, err := d.OptionalBool(tStream); err == nil && given {
		var b bool
		if json.Unmarshal(want.Stream, &b) != nil || b != v {
			t.Fatalf("stream %v", v)
		}
	}
	if n, given, err := d.OptionalCount(tMax); err == nil && given {
		var x float64
		if json.Unmarshal(want.Max, &x) != nil || x != float64(n) {
			t.Fatalf("max_tokens %d, encoding/json %v", n, x)
		}
	}
	var msgs []json.RawMessage
	if d.Value(tMessages).Kind == Array && json.Unmarshal(want.Msgs, &msgs) == nil {
		var system json.RawMessage
		for _, m := range msgs {
			var x struct{ Role, Content json.RawMessage }
			var role string
			if json.Unmarshal(m, &x) != nil || json.Unmarshal(x.Role, &role) != nil || role != "system" && role != "developer" {
				continue
			}
			if system = x.Content; system == nil {
				system = json.RawMessage("")
			}
			if d.System.Kind == Absent || string(d.Raw(d.System)) != string(system) {
				t.Fatalf("system %q, encoding/json %q", d.Raw(d.System), system)
			}
			break
		}
		if system == nil && d.System.Kind != Absent {
			t.Fatal("a system message that is none")
		}
	}
}

func prompt(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"model":"gpt-4o","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"`)
	words := "The quick brown fox jumps over the lazy dog, and says \\\"hello\\\" to it.\\nThen it goes on its way through the wood. "
	for b.Len() < n-100 {
		b.WriteString(words)
	}
	b.WriteString(`"}],"stream":true,"temperature":0.7,"max_tokens":100}`)
	return []byte(b.String())
}

func BenchmarkScan(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		body := prompt(size)
		name := fmt.Sprintf("%dKB", size>>10)
		b.Run("document/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Scan(testSchema, body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("gjson.ValidBytes/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if !gjson.ValidBytes(body) {
					b.Fatal()
				}
			}
		})
		b.Run("json.Valid/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if !json.Valid(body) {
					b.Fatal()
				}
			}
		})
	}
}
