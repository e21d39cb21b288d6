package llm

import (
	"net/http"
	"time"
)

// Request is what the gateway reads of a client's request, and the client's
// bytes with the places of what it may edit.
type Request struct {
	Operation Operation
	Model     string
	Stream    bool
	MaxOutput int64 // the client's own output bound in tokens; 0 = none given
	Choices   int64 // n, candidateCount; at least 1
	Input     int64 // estimate of the prompt's tokens from the length of its text, never by tokenising
	WantUsage bool  // the client asked for the usage chunk of a stream
	HasSystem bool  // the request has a system prompt

	// Image is what per-call image prices depend on; zero for other operations.
	Image struct {
		Size, Quality string
	}

	Body     []byte   // the client's bytes, decoded from any Content-Encoding
	Document Document // index of Body when it is JSON
	Form     *Form    // index of Body when it is multipart/form-data
}

// Edits are the changes that the gateway itself makes to a request body.
// Everything else stays byte for byte.
type Edits struct {
	Model        string  // upstream's name; "" or equal = no edit
	IncludeUsage bool    // ask for the usage chunk (OpenAI chat and completions streams)
	SystemPrompt string  // added when the request has none
	SystemFirst  bool    // put SystemPrompt before an existing one as well
	Params       *Params // channel's param_override; nil = none. Forms (multipart) take Model alone
}

// Codec is one wire format.
type Codec interface {
	Format() Format

	// Parse validates a request body and indexes it. contentType is the
	// request's; model and stream are those of the path where the format puts
	// them there. A *BadRequest says what is wrong and where.
	Parse(op Operation, contentType, pathModel string, body []byte) (*Request, error)

	// Edit returns the body with edits applied; the content type stays (a
	// multipart body keeps its boundary). Without edits it returns Body itself. A
	// *ParamError is what the channel's param_override demands as the answer; a
	// *BadRequest is the client's fault.
	Edit(r *Request, e Edits) ([]byte, error)

	// Reparse is the view of an edited body: what upstream will be asked for, and
	// so what is to be reserved and billed (MaxOutput, Choices, Stream, Input,
	// Image). Model and WantUsage stay the client's. It is needed when
	// Edits.Params were applied; NewTap takes its result. An error means that the
	// override made the body unusable: the channel's fault, not the client's.
	Reparse(r *Request, contentType string, body []byte) (*Request, error)

	// NewTap makes the reader of one response.
	NewTap(r *Request) Tap

	// EncodeError is the whole body of an error answer, JSON.
	EncodeError(e Error) []byte

	// EncodeStreamError is what tells a client of an error inside a stream: one
	// or more whole frames. nil means the format has no place for it and the
	// connection must be ended instead.
	EncodeStreamError(op Operation, e Error) []byte

	// ParseError reads type, code and message of an upstream's error body.
	ParseError(body []byte) (typ, code, message string, ok bool)

	// Framing tells how a streamed answer of this content type is cut.
	Framing(op Operation, contentType string) Framing

	// ForwardHeaders are the names of the vendor's own request headers that pass
	// to upstream (canonical form; a trailing * is a prefix): beta and version headers.
	ForwardHeaders() []string
}

// Framing is how a response body is cut into frames.
type Framing int

// The framings.
const (
	FrameNone  Framing = iota // one body, or bytes of no structure
	FrameSSE                  // text/event-stream
	FrameArray                // a JSON array, sent element by element (Gemini without alt=sse)
)

// Tap reads a response that passes by. It keeps O(1) memory per stream and
// never changes a byte. Calls are made in order by one goroutine.
type Tap interface {
	// Event takes one frame's payload (an SSE data text, an array element).
	// It is valid only during the call.
	Event(data []byte) Verdict
	// Body takes a whole unstreamed answer.
	Body(contentType string, body []byte)
	// Usage is what was reported so far. ok is false where nothing was: then
	// Estimate is what counts.
	Usage() (u Usage, ok bool)
	// Estimate counts the output that passed by its length, with the request's
	// own estimate as input.
	Estimate() Usage
	// Complete reports whether the format's own end was seen ([DONE] or a
	// finish reason, message_stop, response.completed …).
	Complete() bool
}

// Verdict tells the relay what to do with a frame.
type Verdict int

// The verdicts.
const (
	Pass     Verdict = iota // give it to the client
	Withhold                // ours alone: a usage chunk that the client did not ask for
	Failed                  // the frame is upstream's error event; give it to the client, the stream has failed
)

// Error is an error as a codec writes it.
type Error struct {
	Status     int    // HTTP status
	Type       string // in the words of the format
	Code       string
	Param      string
	Message    string
	RequestID  string
	RetryAfter time.Duration
}

// BadRequest is a request body that cannot be taken.
type BadRequest struct {
	Param   string // path of the field, "" = the body itself
	Message string
}

// Error implements error.
func (e *BadRequest) Error() string {
	if e.Param == "" {
		return e.Message
	}
	return e.Param + ": " + e.Message
}

// Codecs is the table of formats.
type Codecs map[Format]Codec

// StatusText is the fallback text of a status without a message of its own.
func StatusText(status int) string {
	if s := http.StatusText(status); s != "" {
		return s
	}
	return "error"
}
