package telemetry

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/core"
)

// minRegistered is the least length of a registered secret: a shorter one would
// blot out ordinary words.
const minRegistered = 8

var redacted = []byte("[redacted]")

// pattern is a shape that secrets have. A line is searched for it only if it
// holds one of the hints: that keeps a line without secrets cheap.
type pattern struct {
	hints [][]byte
	shape *regexp.Regexp
	with  []byte
}

func patterns() []pattern {
	// What may stand before a secret: no part of a word, or an escape of JSON or
	// of Go's quotes, whose letter must not count as part of the word.
	const before = `(^|[^A-Za-z0-9_\\]|\\\\|\\[abfnrtv"/]|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2})`
	hints := func(words ...string) [][]byte {
		out := make([][]byte, len(words))
		for i, w := range words {
			out[i] = []byte(w)
		}
		return out
	}
	return []pattern{
		// user:password@tcp(…), as go-sql-driver writes it.
		{hints("@tcp(", "@unix("), regexp.MustCompile(`[^\s"'=]*:[^\s"]*@(tcp|unix)\(`), []byte("[redacted]@$1(")},
		// scheme://user:password@host
		{hints("@"), regexp.MustCompile(`://[^/\s"'@]*:[^/\s"'@]*@`), []byte("://[redacted]@")},
		{hints("earer", "EARER"), regexp.MustCompile(before + `((?i:bearer))(?:\s+|%20|\+)[A-Za-z0-9._~+/=-]{6,}`), []byte("$1$2 [redacted]")},
		{hints("asic ", "ASIC "), regexp.MustCompile(before + `((?i:basic))\s+[A-Za-z0-9+/=]{8,}`), []byte("$1$2 [redacted]")},
		{hints("sk-"), regexp.MustCompile(before + `sk-[A-Za-z0-9_-]{6,}`), []byte("${1}sk-[redacted]")},
		// Keys of vendors, and our own 48 characters without their prefix.
		{hints("AIza", "gsk_", "xai-", "AKIA"), regexp.MustCompile(before + `(AIza|gsk_|xai-|AKIA)[A-Za-z0-9_-]{12,}`), []byte("$1${2}[redacted]")},
		{nil, regexp.MustCompile(before + `[A-Za-z0-9]{48}\b`), []byte("${1}[redacted]")},
	}
}

// Redactor replaces secrets in rendered text: those that were registered, in
// every spelling that a log can give them, and whatever has the shape of one.
// It is safe for concurrent use.
type Redactor struct {
	patterns   []pattern
	registered atomic.Pointer[[][]byte] // longest first
}

// NewRedactor starts with secrets registered.
func NewRedactor(secrets ...core.Secret) *Redactor {
	r := &Redactor{patterns: patterns()}
	r.registered.Store(&[][]byte{})
	r.Register(secrets...)
	return r
}

// Register adds secrets. Those shorter than 8 characters are left to the shapes.
func (r *Redactor) Register(secrets ...core.Secret) {
	for {
		old := r.registered.Load()
		next := slices.Clone(*old)
		for _, s := range secrets {
			if len(s) >= minRegistered {
				next = append(next, spellings(s.Reveal())...)
			}
		}
		slices.SortFunc(next, func(a, b []byte) int {
			if d := len(b) - len(a); d != 0 {
				return d
			}
			return bytes.Compare(a, b)
		})
		next = slices.CompactFunc(next, bytes.Equal)
		if r.registered.CompareAndSwap(old, &next) {
			return
		}
	}
}

// spellings are the forms in which a text appears in JSON, in Go's quotes and in
// URLs.
func spellings(s string) [][]byte {
	out := [][]byte{[]byte(s)}
	quoted := strconv.Quote(s)
	forms := []string{quoted[1 : len(quoted)-1], url.QueryEscape(s), url.PathEscape(s)}
	if j, err := json.Marshal(s); err == nil {
		forms = append(forms, string(j[1:len(j)-1]))
	}
	// A message that quotes is quoted again by the handler.
	twice := strconv.Quote(quoted[1 : len(quoted)-1])
	forms = append(forms, twice[1:len(twice)-1])
	for _, f := range forms {
		if f != s {
			out = append(out, []byte(f))
		}
	}
	return out
}

// Bytes returns line without secrets. The result is line itself where there is
// nothing to hide.
func (r *Redactor) Bytes(line []byte) []byte {
	for _, secret := range *r.registered.Load() {
		if bytes.Contains(line, secret) {
			line = replaceWhole(line, secret)
		}
	}
	for i := range r.patterns {
		p := &r.patterns[i]
		if p.hints != nil && !containsAny(line, p.hints) {
			continue
		}
		if p.hints == nil && !hasLongWord(line) {
			continue
		}
		if p.shape.Match(line) {
			line = p.shape.ReplaceAll(line, p.with)
		}
	}
	return redactFields(line)
}

// String is Bytes for a text.
func (r *Redactor) String(text string) string { return string(r.Bytes([]byte(text))) }

// replaceWhole replaces secret, but not where its first letter belongs to an
// escape: that is another text, and the escape would be broken.
func replaceWhole(line, secret []byte) []byte {
	var out []byte
	for {
		at := bytes.Index(line, secret)
		if at < 0 {
			return append(out, line...)
		}
		slashes := at - len(bytes.TrimRight(line[:at], `\`))
		if slashes%2 == 1 {
			out, line = append(out, line[:at+1]...), line[at+1:]
			continue
		}
		out, line = append(append(out, line[:at]...), redacted...), line[at+len(secret):]
	}
}

func containsAny(line []byte, words [][]byte) bool {
	for _, w := range words {
		if bytes.Contains(line, w) {
			return true
		}
	}
	return false
}

// hasLongWord reports whether 48 letters and digits stand together.
func hasLongWord(line []byte) bool {
	run := 0
	for _, c := range line {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			if run++; run >= core.TokenKeyLength {
				return true
			}
			continue
		}
		run = 0
	}
	return false
}
