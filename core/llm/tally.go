package llm

import "bytes"

// Tally counts text by length, in constant space. It stands in for a tokenizer
// where tokens are only estimated: what a prompt will cost at most, and what a
// stream cost whose upstream reports nothing.
//
// The rule: 3.5 bytes of ASCII are a token (English prose has 4 to 4.7 with
// OpenAI's vocabularies and 3.5 with Claude's, source code 3 to 3.5); 3 bytes of
// other UTF-8 are a token (a CJK sign has 3 bytes and 0.7 to 1.2 tokens, a
// Cyrillic letter 2 bytes and 0.35 to 0.5, an emoji 4 and 1 to 3). Keys of a
// prompt's objects count as text: they stand for the 3 to 5 tokens that vendors
// add to a message and for the frame of a tool's schema. So the figure leans
// upwards for prose and is close for code.
type Tally struct {
	ASCII    int64 // bytes of ASCII text
	Wide     int64 // bytes of other text
	Literals int64 // tokens of numbers, true, false and null
	Media    int64 // images, files and sounds, inline or by reference
}

// MediaTokens is the figure for one image, file or sound: a full-size image
// has 765 tokens at OpenAI, 1,290 at Gemini and 1,600 at Claude.
const MediaTokens = 1600

// Tokens is the estimate.
func (t *Tally) Tokens() int64 {
	return (6*t.ASCII+7*t.Wide+20)/21 + t.Literals + MediaTokens*t.Media
}

// Add counts a plain text.
func (t *Tally) Add(s string) {
	var wide int64
	for i := range len(s) {
		if s[i] >= 0x80 {
			wide++
		}
	}
	t.Wide += wide
	t.ASCII += int64(len(s)) - wide
}

// class is what a key says about the string that follows it.
type class uint8

const (
	classNone   class = iota
	classInline       // may be the base64 of a medium
	classRef          // names a medium: a URL or an id
	classMedia        // classRef for a string; an object's url is one
	classSource       // an object whose url is classRef
	classOpaque       // a vendor's signature: not text
)

func classOf(key []byte, outer class) class {
	switch string(key) {
	case "data", "file_data", "b64_json":
		return classInline
	case "url":
		if outer == classMedia || outer == classSource {
			return classRef
		}
	case "image_url", "video_url", "audio_url":
		return classMedia
	case "source":
		return classSource
	case "file_id", "file_url", "file_uri", "fileUri":
		return classRef
	case "signature", "thoughtSignature", "thought_signature", "encrypted_content":
		return classOpaque
	}
	return classNone
}

// text counts one string value of a prompt. raw is the JSON text between the
// quotes, wide and shrink as scanner.str returns them.
func (t *Tally) text(raw []byte, wide, shrink int, c class) {
	if len(raw) == 0 {
		return
	}
	switch {
	case c == classRef, c == classMedia, raw[0] == 'd' && isDataURL(raw) && (c != classNone || allBase64(raw[bytes.IndexByte(raw, ',')+1:])):
		t.Media++ // in a place for text the beginning alone makes none
		return
	case c == classInline && isBase64(raw):
		t.Media++
		return
	case c == classOpaque:
		return
	}
	t.key(len(raw), wide, shrink)
}

func (t *Tally) key(n, wide, shrink int) {
	t.ASCII += int64(n - wide - shrink)
	t.Wide += int64(wide)
}

// literal counts a number, true, false or null: a token for each, and for three digits.
func (t *Tally) literal(n int) { t.Literals += int64(1 + (n-1)/3) }

// isDataURL recognises data:image/png;base64,…
func isDataURL(raw []byte) bool {
	return bytes.HasPrefix(raw, []byte("data:")) && bytes.Contains(raw[:min(len(raw), 128)], []byte(";base64,"))
}

// isBase64 looks at both ends of a string: media are long and have no spaces.
// A short string counts as text.
func isBase64(raw []byte) bool {
	const look = 256
	if len(raw) < 64 {
		return false
	}
	if isDataURL(raw) {
		return true
	}
	return allBase64(raw[:min(len(raw), look)]) && allBase64(raw[max(0, len(raw)-look):])
}

func allBase64(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '+', c == '/', c == '=', c == '-', c == '_', c == '\\': // "\/" and "\n" are escapes
		default:
			return false
		}
	}
	return true
}
