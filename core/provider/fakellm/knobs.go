package fakellm

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Knobs change how a request is answered. The zero value changes nothing. JSON
// names stand in the tags; times are milliseconds. Pointers are for knobs whose
// zero has a meaning: {"cut_after_chunks":0} cuts before the first chunk.
type Knobs struct {
	// What is said.
	Text         *string         `json:"text"`          // the answer's text
	Usage        json.RawMessage `json:"usage"`         // the vendor's usage object, as it is
	NoUsage      bool            `json:"no_usage"`      // no usage anywhere
	FinishReason string          `json:"finish_reason"` // in the words of the format
	Model        string          `json:"model"`         // the model that the answer names
	ToolCall     bool            `json:"tool_call"`     // the answer calls the first tool of the request
	BodyBytes    int             `json:"body_bytes"`    // the text is repeated up to this length

	// How a stream is cut and paced.
	Chunks       int `json:"chunks"`         // number of content chunks; the text is repeated where it is too short
	ChunkBytes   int `json:"chunk_bytes"`    // length of the text of each
	ChunkDelayMS int `json:"chunk_delay_ms"` // before each chunk but the first
	FirstDelayMS int `json:"first_byte_delay_ms"`

	// What goes wrong.
	Status           int               `json:"status"`             // an error answer
	RetryAfter       string            `json:"retry_after"`        // its Retry-After
	ErrorBody        json.RawMessage   `json:"error_body"`         // its body: an object as it is, a string as text
	ErrorType        string            `json:"error_type"`         // type and code in the vendor's error
	Times            int               `json:"times"`              // what goes wrong does so for the first n requests of this id only
	ID               string            `json:"id"`                 // what times counts by
	Close            bool              `json:"close"`              // the connection ends without an answer
	Hang             bool              `json:"hang"`               // no answer until the client leaves
	HangAfterChunks  *int              `json:"hang_after_chunks"`  // a stream stops, the connection stays
	CutAfterChunks   *int              `json:"cut_after_chunks"`   // the connection breaks; an unstreamed body breaks in its middle
	EndAfterChunks   *int              `json:"end_after_chunks"`   // the body ends in order, but without the format's end
	ErrorAfterChunks *int              `json:"error_after_chunks"` // the format's error event, then the end
	NoDone           bool              `json:"no_done"`            // OpenAI's [DONE] is left out, nothing else
	Garbage          bool              `json:"garbage"`            // bytes of no format, status 200
	Endless          bool              `json:"endless"`            // chunks or bytes until the client leaves
	GzipBomb         bool              `json:"gzip_bomb"`          // 64 MB of blanks behind Content-Encoding: gzip
	Redirect         string            `json:"redirect"`           // 302 to there (or status, if it is 3xx)
	ContentType      string            `json:"content_type"`       // instead of the right one
	Headers          map[string]string `json:"headers"`            // further headers of the answer
	CRLF             bool              `json:"crlf"`               // lines of a stream end with CR LF
	Comments         bool              `json:"comments"`           // a comment line before each chunk of a stream
}

const (
	maxKnobs = 1 << 20
	maxDelay = 10 * time.Minute
)

func (k *Knobs) merge(text string) error {
	if text == "" {
		return nil
	}
	if len(text) > maxKnobs {
		return fmt.Errorf("fake: longer than %d bytes", maxKnobs)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(k); err != nil {
		return fmt.Errorf("fake: %w", err)
	}
	if k.Status != 0 && (k.Status < 200 || k.Status > 599) {
		return fmt.Errorf("fake: status %d", k.Status)
	}
	const most = 1 << 26
	if k.Chunks < 0 || k.Chunks > most || k.ChunkBytes < 0 || k.ChunkBytes > most || k.BodyBytes < 0 || k.BodyBytes > most || k.Chunks*max(k.ChunkBytes, 1) > most {
		return fmt.Errorf("fake: chunks, chunk_bytes, body_bytes: out of range")
	}
	return nil
}

func ms(n int) time.Duration {
	return min(max(time.Duration(n)*time.Millisecond, 0), maxDelay)
}

// recover ends what goes wrong.
func (k *Knobs) recover() {
	k.Status, k.RetryAfter, k.Redirect = 0, "", ""
	k.Close, k.Hang, k.Garbage, k.Endless, k.GzipBomb, k.NoDone = false, false, false, false, false, false
	k.HangAfterChunks, k.CutAfterChunks, k.EndAfterChunks, k.ErrorAfterChunks = nil, nil, nil, nil
}
