package claude

import "github.com/sluice-gateway/sluice/core/llm"

// Codec is the Claude format.
type Codec struct{}

var _ llm.Codec = Codec{}

// New makes the codec.
func New() Codec { return Codec{} }

// Format implements llm.Codec.
func (Codec) Format() llm.Format { return llm.Claude }

// Framing implements llm.Codec.
func (Codec) Framing(_ llm.Operation, contentType string) llm.Framing {
	if llm.IsEventStream(contentType) {
		return llm.FrameSSE
	}
	return llm.FrameNone
}

// ForwardHeaders implements llm.Codec: the API's version and its betas.
func (Codec) ForwardHeaders() []string { return []string{"Anthropic-Version", "Anthropic-Beta"} }

// ParseError implements llm.Codec.
func (Codec) ParseError(body []byte) (typ, code, message string, ok bool) {
	return llm.ParseErrorBody(body)
}

// EncodeError implements llm.Codec.
func (Codec) EncodeError(e llm.Error) []byte {
	b := append(make([]byte, 0, 256), `{"type":"error","error":{"type":`...)
	b = llm.AppendQuoted(b, e.Type)
	b = append(b, `,"message":`...)
	b = llm.AppendQuoted(b, e.Text())
	b = append(b, '}')
	if e.RequestID != "" {
		b = append(b, `,"request_id":`...)
		b = llm.AppendQuoted(b, e.RequestID)
	}
	return append(b, '}')
}

// EncodeStreamError implements llm.Codec.
func (c Codec) EncodeStreamError(_ llm.Operation, e llm.Error) []byte {
	return append(append([]byte("event: error\ndata: "), c.EncodeError(e)...), "\n\n"...)
}

// The watched keys of a request.
const (
	fModel llm.Field = iota
	fStream
	fMaxTokens
	fSystem
	fMessages
	fTools
)

var requestSchema = llm.NewSchema(
	llm.Path{At: "model"},
	llm.Path{At: "stream"},
	llm.Path{At: "max_tokens"},
	llm.Path{At: "system", Text: true},
	llm.Path{At: "messages", Text: true},
	llm.Path{At: "tools", Text: true},
)

// Parse implements llm.Codec.
func (Codec) Parse(op llm.Operation, _, _ string, body []byte) (*llm.Request, error) {
	if op != llm.OpMessages && op != llm.OpMessagesCount {
		return nil, &llm.BadRequest{Message: "the operation " + string(op) + " is not of this format"}
	}
	r := &llm.Request{Operation: op, Choices: 1, Body: body}
	d := &r.Document
	if err := d.Scan(requestSchema, body); err != nil {
		return nil, err
	}
	if d.Root != llm.Object {
		return nil, &llm.BadRequest{Message: "the body must be a JSON object"}
	}
	if err := parse(r, d); err != nil {
		return nil, err
	}
	return r, nil
}

func parse(r *llm.Request, d *llm.Document) (err error) {
	if r.Model, err = d.RequireText(fModel); err != nil {
		return err
	}
	if err = d.RequireKind(fMessages, "an array", llm.Array); err != nil {
		return err
	}
	if d.Empty(d.Value(fMessages)) {
		return &llm.BadRequest{Param: "messages", Message: "must not be empty"}
	}
	if err = d.OptionalKind(fSystem, "a string or an array", llm.String, llm.Array); err != nil {
		return err
	}
	if r.Stream, _, err = d.OptionalBool(fStream); err != nil {
		return err
	}
	if r.Operation == llm.OpMessagesCount {
		r.Stream = false
	}
	if r.MaxOutput, _, err = d.OptionalCount(fMaxTokens); err != nil {
		return err
	}
	r.Input = d.Tally.Tokens()
	r.HasSystem = hasSystem(d)
	return nil
}

// hasSystem: an empty system prompt is none.
func hasSystem(d *llm.Document) bool {
	v := d.Value(fSystem)
	switch v.Kind {
	case llm.String:
		return !d.IsText(v, "")
	case llm.Array:
		return !d.Empty(v)
	}
	return false
}

// Reparse implements llm.Codec.
func (c Codec) Reparse(r *llm.Request, contentType string, body []byte) (*llm.Request, error) {
	edited, err := c.Parse(r.Operation, contentType, "", body)
	if err != nil {
		return nil, err
	}
	return r.Reparsed(edited), nil
}

// Edit implements llm.Codec.
func (Codec) Edit(r *llm.Request, e llm.Edits) ([]byte, error) {
	var s llm.Splices
	s.Model(r, fModel, e)
	if e.SystemPrompt != "" && (!r.HasSystem || e.SystemFirst) {
		editSystem(&s, &r.Document, e.SystemPrompt)
	}
	return e.Finish(r, s.Apply(r.Body))
}

func editSystem(s *llm.Splices, d *llm.Document, prompt string) {
	switch v := d.Value(fSystem); {
	case v.Kind == llm.Absent:
		s.Member(d.Value(fModel), "system", llm.Quote(prompt))
	case v.Kind == llm.Array:
		s.First(d, v, "", `{"type":"text","text":`+llm.Quote(prompt)+`}`)
	case v.Kind == llm.String && !d.IsText(v, ""):
		s.Prefix(v, prompt)
	default:
		s.Replace(v, llm.Quote(prompt))
	}
}
