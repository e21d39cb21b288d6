package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// frames reads a whole stream; the parts of a frame are copied.
func frames(t testing.TB, r *FrameReader) (list []Frame, err error) {
	t.Helper()
	for {
		f, err := r.Next()
		if err != nil {
			return list, err
		}
		if len(f.Raw) == 0 {
			t.Fatal("empty frame")
		}
		c := Frame{Raw: bytes.Clone(f.Raw), Incomplete: f.Incomplete}
		if f.Data != nil {
			c.Data = append([]byte{}, f.Data...)
		}
		list = append(list, c)
	}
}

// payloads is a plain reading of the standard: the data of each event.
func payloads(in string) (list []string) {
	in = strings.TrimPrefix(in, "\xef\xbb\xbf")
	in = strings.ReplaceAll(strings.ReplaceAll(in, "\r\n", "\n"), "\r", "\n")
	var data []string
	lines := strings.Split(in, "\n")
	for i, line := range lines {
		if line == "" && i < len(lines)-1 {
			if data != nil {
				list = append(list, strings.Join(data, "\n"))
			}
			data = nil
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		if name == "data" {
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	if data != nil {
		list = append(list, strings.Join(data, "\n")) // incomplete
	}
	return list
}

func dataOf(list []Frame) (out []string) {
	for _, f := range list {
		if f.Data != nil {
			out = append(out, string(f.Data))
		}
	}
	return out
}

func rawOf(list []Frame) string {
	var b strings.Builder
	for _, f := range list {
		b.Write(f.Raw)
	}
	return b.String()
}

func sseCases() []string {
	return []string{
		"data: a\n\ndata: b\n\n",
		"data: a\r\n\r\ndata:b\r\n\r\n",
		"data: a\r\rdata: b\r\r",
		"\xef\xbb\xbfdata: a\n\n",
		"\xef\xbb\xbf\n\ndata: a\n\n",
		": ping\n\ndata: a\n\n: x\n",
		"event: message_start\ndata: {\"a\":1}\n\nevent: ping\ndata: {}\n\n",
		"data: one\ndata: two\ndata\ndata:\n\n",
		"data: a\n\n\n\n\ndata: b\n\n",
		"data: a\r\n\r\n\r\n",
		"data: a\r\r\n\ndata: b\n\r\n",
		"id: 1\nretry: 5\n\ndata: [DONE]\n\n",
		"data: cut",
		"data: cut\n",
		"dataset: no\n\ndat\n\n",
		"",
		"\n",
		"\r",
		"data: a\r\n\r",
		"data: a\nid: 1\ndata: b\ndata:\n\n",
		"data: a\n\n: c\r\n\r\ndata: b\ndata: c\n\nda",
		"data:\r\n\r\n\n\r\n",
	}
}

func TestSSEFrames(t *testing.T) {
	for _, in := range sseCases() {
		for cut := 0; cut <= len(in); cut++ {
			r := NewSSEReader(io.MultiReader(strings.NewReader(in[:cut]), strings.NewReader(in[cut:])), 1<<20)
			list, err := frames(t, r)
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%q: %v", in, err)
			}
			if got := rawOf(list); got != in {
				t.Fatalf("%q cut at %d: bytes %q", in, cut, got)
			}
			if got, want := dataOf(list), payloads(in); !slices.Equal(got, want) {
				t.Fatalf("%q cut at %d: data %q, want %q", in, cut, got, want)
			}
		}
		one, _ := frames(t, NewSSEReader(iotest.OneByteReader(strings.NewReader(in)), 1<<20))
		if got, want := dataOf(one), payloads(in); !slices.Equal(got, want) || rawOf(one) != in {
			t.Fatalf("%q byte by byte: %q", in, dataOf(one))
		}
	}
}

func TestSSEIncomplete(t *testing.T) {
	for in, want := range map[string]bool{"data: a\n\n": false, "data: a\n": true, "data: a": true, "data: a\r\r": false, "data: a\r\r\n": false, ": x": true} {
		list, err := frames(t, NewSSEReader(strings.NewReader(in), 1<<20))
		if got := list[len(list)-1].Incomplete; got != want || errors.Is(err, io.EOF) == want {
			t.Errorf("%q: incomplete %v, %v", in, got, err)
		}
	}
}

// A frame is there as soon as its blank line is: the reader must not wait.
func TestSSEDeliversAtOnce(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\n\r\n", "\r\r", "\n\r"} {
		pr, pw := io.Pipe()
		r := NewSSEReader(pr, 1<<20)
		for i := range 3 {
			go func() { _, _ = io.WriteString(pw, fmt.Sprintf("data: %d%s", i, end)) }()
			f, err := r.Next()
			if err != nil || string(f.Data) != fmt.Sprint(i) {
				t.Fatalf("%q: %q %v", end, f.Data, err)
			}
		}
		_ = pw.Close()
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

func TestSSEReady(t *testing.T) {
	r := NewSSEReader(strings.NewReader("data: 1\n\ndata: 2\n\ndata: 3"), 1<<20)
	if r.Ready() {
		t.Fatal("ready before any read")
	}
	for _, want := range []bool{true, false} {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if got := r.Ready(); got != want {
			t.Fatalf("ready %v", got)
		}
	}
}

func TestSSELimitAndMemory(t *testing.T) {
	long := "data: " + strings.Repeat("x", 200_000) + "\n\n"
	r := NewSSEReader(strings.NewReader(long+strings.Repeat("data: small\n\n", 1000)), 1<<20)
	f, err := r.Next()
	if err != nil || len(f.Data) != 200_000 {
		t.Fatal(len(f.Data), err)
	}
	if list, err := frames(t, r); len(list) != 1000 || !errors.Is(err, io.EOF) {
		t.Fatal(len(list), err)
	}
	if len(r.buf) > readerKept {
		t.Errorf("buffer of %d kept", len(r.buf))
	}
	for _, in := range []string{long, strings.Repeat("data: x\n", 20_000), ": " + strings.Repeat("c", 200_000)} {
		r := NewSSEReader(strings.NewReader(in), 100_000)
		if _, err := r.Next(); !errors.Is(err, ErrFrameTooLong) {
			t.Errorf("%.10s: %v", in, err)
		}
		if len(r.buf) > 100_000 {
			t.Errorf("buffer of %d", len(r.buf))
		}
	}
	broken := errors.New("reset")
	r = NewSSEReader(io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(broken)), 1<<20)
	list, err := frames(t, r)
	if !errors.Is(err, broken) || len(list) != 2 || !list[1].Incomplete {
		t.Errorf("%q %v", dataOf(list), err)
	}
}

func arrayCases() map[string][]string {
	return map[string][]string{
		`[{"a":1}]`: {`{"a":1}`},
		"[{\n  \"a\": [1, {\"b\": \"]}\"}]\n}\n,\r\n{\"c\":\"\\\"\\\\\"}\n]\n": {"{\n  \"a\": [1, {\"b\": \"]}\"}]\n}", `{"c":"\"\\"}`},
		`[]`:                         nil,
		` [ ] `:                      nil,
		`[[1],{"x":2},3,"a]",{}]`:    {`[1]`, `{"x":2}`, `{}`},
		`{"error":{"code":400}}`:     {`{"error":{"code":400}}`},
		"\n{\"error\":\"a\\\\\"}\n":  {`{"error":"a\\"}`},
		`[{"s":"\\\\\\\""},{"t":1}]`: {`{"s":"\\\\\\\""}`, `{"t":1}`},
	}
}

func TestArrayFrames(t *testing.T) {
	for in, want := range arrayCases() {
		for cut := 0; cut <= len(in); cut++ {
			r := NewArrayReader(io.MultiReader(strings.NewReader(in[:cut]), strings.NewReader(in[cut:])), 1<<20)
			list, err := frames(t, r)
			if !errors.Is(err, io.EOF) || rawOf(list) != in || !slices.Equal(dataOf(list), want) {
				t.Fatalf("%q cut at %d: %q %v", in, cut, dataOf(list), err)
			}
		}
	}
	for _, in := range []string{``, `[`, `[{"a":1}`, `[{"a":1},`, `[{"a":1},{"b`, `{"a`} {
		list, err := frames(t, NewArrayReader(iotest.OneByteReader(strings.NewReader(in)), 1<<20))
		if !errors.Is(err, io.ErrUnexpectedEOF) || rawOf(list) != in {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestArrayDeliversAtOnce(t *testing.T) {
	pr, pw := io.Pipe()
	r := NewArrayReader(pr, 1<<20)
	for i, part := range []string{`[{"n":0}`, `,` + "\r\n" + `{"n":1}`} {
		go func() { _, _ = io.WriteString(pw, part) }()
		if f, err := r.Next(); err != nil || string(f.Data) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("%q %v", f.Data, err)
		}
	}
	_ = pw.Close()
}

// FuzzSSE: no byte is lost or changed, and the payloads are those of a plain
// reading of the standard, however the stream is cut.
func FuzzSSE(f *testing.F) {
	for i, s := range sseCases() {
		f.Add([]byte(s), uint(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint) {
		at := int(cut % uint(len(in)+1))
		want := payloads(string(in))
		for _, src := range []io.Reader{
			io.MultiReader(bytes.NewReader(in[:at]), bytes.NewReader(in[at:])), iotest.OneByteReader(bytes.NewReader(in)), iotest.DataErrReader(bytes.NewReader(in)),
		} {
			list, _ := frames(t, NewSSEReader(src, 1<<20))
			if rawOf(list) != string(in) {
				t.Fatalf("bytes %q", rawOf(list))
			}
			if got := dataOf(list); !slices.Equal(got, want) {
				t.Fatalf("data %q, want %q", got, want)
			}
		}
	})
}

// FuzzArray: no byte is lost or changed, and the elements are encoding/json's.
func FuzzArray(f *testing.F) {
	for s := range arrayCases() {
		f.Add([]byte(s), uint(3))
	}
	f.Add([]byte(`]]}}"`), uint(2))
	f.Fuzz(func(t *testing.T, in []byte, cut uint) {
		at := int(cut % uint(len(in)+1))
		list, err := frames(t, NewArrayReader(io.MultiReader(bytes.NewReader(in[:at]), bytes.NewReader(in[at:])), 1<<20))
		if rawOf(list) != string(in) {
			t.Fatalf("bytes %q", rawOf(list))
		}
		var elements []json.RawMessage
		if json.Unmarshal(in, &elements) != nil || bytes.TrimSpace(in)[0] != '[' {
			return
		}
		var want []string
		for _, e := range elements {
			if e[0] == '{' || e[0] == '[' {
				want = append(want, string(e))
			}
		}
		if got := dataOf(list); !slices.Equal(got, want) || !errors.Is(err, io.EOF) {
			t.Fatalf("elements %q, want %q (%v)", got, want, err)
		}
	})
}

func BenchmarkSSE(b *testing.B) {
	chunk := `data: {"id":"chatcmpl-AbCdEf","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" hello"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n"
	stream := strings.Repeat(chunk, 1000)
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	var r *FrameReader
	left := 0
	for b.Loop() {
		if left == 0 {
			r, left = NewSSEReader(strings.NewReader(stream), 1<<20), 1000
		}
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
		left--
	}
}
