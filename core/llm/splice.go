package llm

import (
	"cmp"
	"slices"
	"unicode/utf8"
)

// Splice replaces body[Start:End] by Text.
type Splice struct {
	Start, End int
	Text       string
}

// Splices is a list of edits to one body, in any order and without overlap.
type Splices []Splice

// Replace puts a JSON text in the place of a value.
func (s *Splices) Replace(v Value, text string) { *s = append(*s, Splice{v.Start, v.End, text}) }

// Insert puts text at an index.
func (s *Splices) Insert(at int, text string) { *s = append(*s, Splice{at, at, text}) }

// Member adds a member behind another one of the same object, which it is told
// by its value.
func (s *Splices) Member(after Value, key, text string) {
	s.Insert(after.End, `,"`+key+`":`+text)
}

// First adds a member to the front of an object, or an element to the front of
// an array (key "").
func (s *Splices) First(d *Document, in Value, key, text string) {
	if key != "" {
		text = `"` + key + `":` + text
	}
	if !d.Empty(in) {
		text += ","
	}
	s.Insert(in.Start+1, text)
}

// Apply returns the edited body; body itself when there is nothing to do.
func (s Splices) Apply(body []byte) []byte {
	if len(s) == 0 {
		return body
	}
	slices.SortStableFunc(s, func(a, b Splice) int { return cmp.Compare(a.Start, b.Start) })
	n := len(body)
	for _, e := range s {
		n += len(e.Text) - (e.End - e.Start)
	}
	out, at := make([]byte, 0, n), 0
	for _, e := range s {
		out = append(out, body[at:e.Start]...)
		out = append(out, e.Text...)
		at = e.End
	}
	return append(out, body[at:]...)
}

const hexDigits = "0123456789abcdef"

// AppendQuoted appends s as a JSON string. Only what must be escaped is; what
// is no UTF-8 becomes U+FFFD.
func AppendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[from:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, `\n`...)
			case '\r':
				dst = append(dst, `\r`...)
			case '\t':
				dst = append(dst, `\t`...)
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[from:i]...)
			dst = append(dst, "\ufffd"...)
			from = i + 1
		}
		i += size
	}
	return append(append(dst, s[from:]...), '"')
}

// Quote is AppendQuoted as a string.
func Quote(s string) string { return string(AppendQuoted(make([]byte, 0, len(s)+8), s)) }
