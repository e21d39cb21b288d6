package fakellm

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// script is a streamed answer in one format. Each function appends whole frames.
type script struct {
	contentType string
	open        func(b []byte) []byte
	delta       func(b []byte, i int, text string) []byte
	close       func(b []byte) []byte
	fail        func(b []byte) []byte
}

// play sends a script with the pieces of a text, as the knobs want.
func (c *call) play(s script, pieces []string) {
	c.begin(s.contentType)
	c.w.Header()["Cache-Control"] = noCache
	k := c.k
	buf := make([]byte, 0, 1024)
	if s.open != nil {
		buf = s.open(buf)
	}
	for i := 0; i < len(pieces) || k.Endless; i++ {
		if !c.trouble(s, i, buf) {
			return
		}
		if k.ChunkDelayMS > 0 && i > 0 && !c.wait(ms(k.ChunkDelayMS)) {
			return
		}
		if k.Comments {
			buf = append(buf, ": still here\n\n"...)
		}
		buf = s.delta(buf, i, pieces[i%len(pieces)])
		if !c.frames(buf) {
			return
		}
		buf = buf[:0]
	}
	if !c.trouble(s, len(pieces), buf) {
		return
	}
	c.frames(s.close(buf))
}

var noCache = []string{"no-cache"}

// trouble does what is to happen before chunk i; false ends the stream. head are
// frames that were not sent yet.
func (c *call) trouble(s script, i int, head []byte) bool {
	k := c.k
	at := func(n *int) bool { return n != nil && *n == i }
	switch {
	case at(k.CutAfterChunks):
		c.frames(head)
		c.flush()
		panic(errAbort)
	case at(k.EndAfterChunks):
		c.frames(head)
		return false
	case at(k.HangAfterChunks):
		c.frames(head)
		c.flush()
		<-c.ctx.Done()
		return false
	case at(k.ErrorAfterChunks):
		c.frames(s.fail(head))
		return false
	}
	return true
}

// frames sends what is in b and flushes.
func (c *call) frames(b []byte) bool {
	if len(b) == 0 {
		return c.ctx.Err() == nil
	}
	if c.k.CRLF {
		b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	}
	if !c.write(b) {
		return false
	}
	c.flush()
	if c.ctx.Err() != nil {
		c.gone = true
		return false
	}
	return true
}

// tokens is the rule of the package: one for each four bytes begun, at least one.
func tokens(bytes int) int64 { return max(1, int64(bytes+3)/4) }

const greeting = "Hello from the fake LLM. You said: "

// answer is the text of the answer to a prompt's last words, and whether the
// request's bound cut it.
func (c *call) answer(last string) (text string, cut bool) {
	if c.k.Text != nil {
		text = *c.k.Text
	} else {
		text = greeting + clip(last, 200)
	}
	want := c.k.BodyBytes
	if c.k.Chunks > 0 {
		want = max(want, c.k.Chunks*max(c.k.ChunkBytes, 1))
	}
	if want > 0 && text == "" {
		text = "fake "
	}
	if want > len(text) {
		text = strings.Repeat(text+" ", want/(len(text)+1)+1)
	}
	if want > 0 && (c.k.BodyBytes > 0 || c.k.ChunkBytes > 0) {
		text = clip(text, want)
	}
	if c.f.limit > 0 && tokens(len(text)) > c.f.limit {
		return clip(text, int(c.f.limit*4)), true
	}
	return text, false
}

// clip cuts at most n bytes at a boundary of characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// pieces cuts a text into the chunks of a stream: words, or what the knobs say.
func (c *call) pieces(text string) []string {
	n := c.k.Chunks
	if n == 0 && c.k.ChunkBytes > 0 {
		n = (len(text) + c.k.ChunkBytes - 1) / c.k.ChunkBytes
	}
	if n == 0 {
		return strings.SplitAfter(text, " ")
	}
	out := make([]string, 0, n)
	for i := range n {
		left := n - i
		size := (len(text) + left - 1) / left
		p := clip(text, size)
		if p == "" && text != "" { // the first character is longer than its share
			_, w := utf8.DecodeRuneInString(text)
			p = text[:w]
		}
		out = append(out, p)
		text = text[len(p):]
	}
	return out
}

// gather adds up the bytes of all texts in a prompt value (a string, a list of
// parts, of messages, of contents) and remembers the last user text.
func gather(v gjson.Result, size *int, last *string) {
	switch {
	case v.Type == gjson.String:
		*size += len(v.Str)
		*last = v.Str
	case v.IsArray():
		v.ForEach(func(_, e gjson.Result) bool {
			gather(e, size, last)
			return true
		})
	case v.IsObject():
		role, keep := "", *last
		v.ForEach(func(key, e gjson.Result) bool {
			switch key.Str {
			case "role":
				role = e.Str
			case "content", "text", "parts":
				gather(e, size, last)
			}
			return true
		})
		if role != "" && role != "user" {
			*last = keep
		}
	}
}

// quote appends s as a JSON string.
func quote(b []byte, s string) []byte {
	plain := utf8.ValidString(s)
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' || s[i] == '\n'
	}
	if !plain {
		enc, err := json.Marshal(s)
		if err != nil {
			return append(b, '"', '"') // a string always encodes
		}
		return append(b, enc...)
	}
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		switch ch := s[i]; ch {
		case '"', '\\':
			b = append(append(b, s[start:i]...), '\\', ch)
			start = i + 1
		case '\n':
			b = append(append(b, s[start:i]...), '\\', 'n')
			start = i + 1
		}
	}
	return append(append(b, s[start:]...), '"')
}
