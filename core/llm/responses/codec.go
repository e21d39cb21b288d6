package responses

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core/llm"
)

// Codec is the Responses format.
type Codec struct{}

var _ llm.Codec = Codec{}

// New makes the codec.
func New() Codec { return Codec{} }

// Format implements llm.Codec.
func (Codec) Format() llm.Format { return llm.Responses }

// Framing implements llm.Codec.
func (Codec) Framing(_ llm.Operation, contentType string) llm.Framing {
	if llm.IsEventStream(contentType) {
		return llm.FrameSSE
	}
	return llm.FrameNone
}

// ForwardHeaders implements llm.Codec. OpenAI-Organization and -Project choose
// who pays and belong to the channel.
func (Codec) ForwardHeaders() []string { return []string{"Openai-Beta"} }

// ParseError implements llm.Codec.
func (Codec) ParseError(body []byte) (typ, code, message string, ok bool) {
	return llm.ParseErrorBody(body)
}

// EncodeError implements llm.Codec.
func (Codec) EncodeError(e llm.Error) []byte { return llm.OpenAIError(e) }

// EncodeStreamError implements llm.Codec.
func (Codec) EncodeStreamError(_ llm.Operation, e llm.Error) []byte {
	b := append(make([]byte, 0, 256), "event: error\ndata: {\"type\":\"error\",\"code\":"...)
	b = llm.AppendQuoted(b, e.Code)
	b = append(b, `,"message":`...)
	b = llm.AppendQuoted(b, llm.WithRequestID(e.Text(), e.RequestID))
	b = append(b, `,"param":`...)
	if e.Param == "" {
		b = append(b, "null"...)
	} else {
		b = llm.AppendQuoted(b, e.Param)
	}
	return append(b, ",\"sequence_number\":0}\n\n"...)
}

// The watched keys of a request.
const (
	fModel llm.Field = iota
	fStream
	fMaxOutput
	fInstructions
	fInput
	fItem
	fRole
	fContent
	fTools
	fText
	fPrompt
	fPrevious
	fConversation
	fBackground
)

var requestSchema = llm.NewSchema(
	llm.Path{At: "model"},
	llm.Path{At: "stream"},
	llm.Path{At: "max_output_tokens"},
	llm.Path{At: "instructions", Text: true},
	llm.Path{At: "input", Text: true},
	llm.Path{At: "input.#", Role: fRole, Content: fContent},
	llm.Path{At: "input.#.role"},
	llm.Path{At: "input.#.content"},
	llm.Path{At: "tools", Text: true},
	llm.Path{At: "text", Text: true},
	llm.Path{At: "prompt", Text: true},
	llm.Path{At: "previous_response_id"},
	llm.Path{At: "conversation"},
	llm.Path{At: "background"},
)

// Parse implements llm.Codec.
func (Codec) Parse(op llm.Operation, _, _ string, body []byte) (*llm.Request, error) {
	if op != llm.OpResponses {
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
	if r.Stream, _, err = d.OptionalBool(fStream); err != nil {
		return err
	}
	// Such an answer goes on when its request has ended, and its usage is told to
	// nobody: there is no route to fetch it.
	if later, _, err := d.OptionalBool(fBackground); err != nil {
		return err
	} else if later {
		return &llm.BadRequest{Param: "background", Message: "answers in the background are not offered"}
	}
	if r.MaxOutput, _, err = d.OptionalCount(fMaxOutput); err != nil {
		return err
	}
	if d.Has(fPrompt) || d.Has(fPrevious) || d.Has(fConversation) { // the input may stand there
		err = d.OptionalKind(fInput, "a string or an array", llm.String, llm.Array)
	} else {
		err = d.RequireKind(fInput, "a string or an array", llm.String, llm.Array)
	}
	if err != nil {
		return err
	}
	if err = d.OptionalKind(fInstructions, "a string", llm.String); err != nil {
		return err
	}
	r.Input = d.Tally.Tokens()
	r.HasSystem = d.Value(fInstructions).Kind == llm.String && !d.IsText(d.Value(fInstructions), "") || d.System.Kind != llm.Absent
	return nil
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
		d := &r.Document
		switch v := d.Value(fInstructions); {
		case v.Kind == llm.Absent:
			s.Member(d.Value(fModel), "instructions", llm.Quote(e.SystemPrompt))
		case v.Kind == llm.String && !d.IsText(v, ""):
			s.Prefix(v, e.SystemPrompt)
		default:
			s.Replace(v, llm.Quote(e.SystemPrompt))
		}
	}
	return e.Finish(r, s.Apply(r.Body))
}

// usesPreview reports whether the request names the older web search tool, which
// vendors price apart. Of a key that occurs twice any one counts.
func usesPreview(r *llm.Request) (yes bool) {
	d := &r.Document
	_ = d.Each(d.Value(fTools), func(tool llm.Value) error { // f never fails
		return d.Members(tool, func(key string, _ int, v llm.Value) error {
			yes = yes || key == "type" && strings.HasPrefix(gjson.ParseBytes(d.Raw(v)).Str, "web_search_preview")
			return nil
		})
	})
	return yes
}
