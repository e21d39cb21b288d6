package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core/llm"
)

// cutAll splits input that arrives in pieces of the given sizes. Frames are
// written as "bytes|payload".
func cutAll(framing llm.Framing, input []byte, sizes func(i int) int) (got []string, rest []byte, whole bool) {
	sp := newSplitter(framing)
	var buf []byte
	for i := 0; len(input) > 0; i++ {
		n := min(max(sizes(i), 1), len(input))
		buf, input = append(buf, input[:n]...), input[n:]
		for {
			size, payload := sp.next(buf)
			if size == 0 {
				break
			}
			got = append(got, fmt.Sprintf("%s|%s", buf[:size], payload))
			buf = append([]byte(nil), buf[size:]...)
		}
	}
	payload, _, whole := sp.rest(buf)
	if payload != nil {
		got = append(got, fmt.Sprintf("%s|%s", buf, payload))
		buf = nil
	}
	return got, buf, whole
}

func TestSplitSSE(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
		whole    bool
	}{
		{"plain", "data: a\n\ndata: b\n\n", []string{"data: a\n\n|a", "data: b\n\n|b"}, true},
		{"crlf", "event: x\r\ndata: a\r\n\r\ndata:b\r\n\r\n", []string{"event: x\r\ndata: a\r\n\r\n|a", "data:b\r\n\r\n|b"}, true},
		{"comment", ": hi\n\ndata: a\n\n", []string{": hi\n\n|", "data: a\n\n|a"}, true},
		{"many lines", "data: a\nid: 1\ndata: b\ndata:\n\n", []string{"data: a\nid: 1\ndata: b\ndata:\n\n|a\nb\n"}, true},
		{"blank lines between", "data: a\n\n\n\ndata: b\n\n", []string{"data: a\n\n|a", "\n|", "\n|", "data: b\n\n|b"}, true},
		{"other fields", "database: x\n\nid: 3\n\n", []string{"database: x\n\n|", "id: 3\n\n|"}, true},
		{"done without its end", "data: a\n\ndata: [DONE]", []string{"data: a\n\n|a", "data: [DONE]|[DONE]"}, true},
		{"json without its end", "data: {\"a\":1}\n", []string{"data: {\"a\":1}\n|{\"a\":1}"}, true},
		{"cut json", "data: {\"a\":1", []string{"data: {\"a\":1|{\"a\":1"}, false},
		{"cut field", "data: a\n\nda", []string{"data: a\n\n|a"}, false},
		{"empty", "", nil, true},
		{"white space", "data: a\n\n \n", []string{"data: a\n\n|a"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for size := 1; size <= len(c.in)+1; size++ {
				got, _, whole := cutAll(llm.FrameSSE, []byte(c.in), func(int) int { return size })
				if strings.Join(got, "§") != strings.Join(c.want, "§") || whole != c.whole {
					t.Fatalf("in pieces of %d: %q %v", size, got, whole)
				}
			}
		})
	}
}

func TestSplitArray(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
		whole    bool
	}{
		{"two", `[{"a":1},{"b":[2,{}]}]`, []string{`[{"a":1}|{"a":1}`, `,{"b":[2,{}]}|{"b":[2,{}]}`, `]|`}, true},
		{"spaced", "[ {\"a\":\"]}\\\"[\"}\n,\r\n{} ]\n", []string{"[ {\"a\":\"]}\\\"[\"}|{\"a\":\"]}\\\"[\"}", "\n,\r\n{}|{}", " ]|"}, true},
		{"empty", `[]`, []string{`[]|`}, true},
		{"open", `[{"a":1}`, []string{`[{"a":1}|{"a":1}`}, false},
		{"cut", `[{"a":1},{"b"`, []string{`[{"a":1}|{"a":1}`}, false},
		{"one object", `{"a":1}`, []string{`{"a":1}|{"a":1}`}, true},
		{"more behind it", `[{}]x`, []string{`[{}|{}`, `]|`}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for size := 1; size <= len(c.in)+1; size++ {
				got, _, whole := cutAll(llm.FrameArray, []byte(c.in), func(int) int { return size })
				if strings.Join(got, "§") != strings.Join(c.want, "§") || whole != c.whole {
					t.Fatalf("in pieces of %d: %q %v", size, got, whole)
				}
			}
		})
	}
}

// Whatever arrives and however it is cut: no byte is lost or doubled, and the
// frames are the same as in one piece.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("data: a\n\n: c\r\n\r\ndata: b\ndata: c\n\nda"), uint8(3), false)
	f.Add([]byte(`[{"a":"\"]"},{"b":[1]}]`), uint8(1), true)
	f.Add([]byte("data:\r\n\r\n\n\r\n"), uint8(2), false)
	f.Add([]byte(`]]}}"`), uint8(2), true)
	f.Fuzz(func(t *testing.T, in []byte, size uint8, array bool) {
		framing := llm.FrameSSE
		if array {
			framing = llm.FrameArray
		}
		whole, rest, ok := cutAll(framing, in, func(int) int { return len(in) })
		pieces, rest2, ok2 := cutAll(framing, in, func(i int) int { return int(size)%7 + i%3 })
		if strings.Join(whole, "§") != strings.Join(pieces, "§") || !bytes.Equal(rest, rest2) || ok != ok2 {
			t.Fatalf("%q\n%q %q %v\n%q %q %v", in, whole, rest, ok, pieces, rest2, ok2)
		}
		all := ""
		for _, frame := range whole {
			// The payload is behind the last bar that fits; compare by length.
			all += frame
		}
		if len(all) < len(in)-len(rest) {
			t.Fatalf("bytes were lost: %q", in)
		}
		if array && ok && json.Valid(in) && bytes.HasPrefix(bytes.TrimSpace(in), []byte("[{")) && len(whole) < 2 {
			t.Fatalf("%q gave %q", in, whole)
		}
	})
}

func FuzzCredential(f *testing.F) {
	f.Add("Bearer sk-abc-12", "realtime, openai-insecure-api-key.sk-x")
	f.Fuzz(func(t *testing.T, auth, ws string) {
		key, channel := splitKey(bare(auth))
		if strings.Contains(key, "-") && key != "" {
			t.Fatalf("%q: key %q", auth, key)
		}
		_ = channel
		if k := websocketKey(ws); k != "" && !strings.Contains(ws, wsKeyPrefix) {
			t.Fatalf("%q gave %q", ws, k)
		}
	})
}
