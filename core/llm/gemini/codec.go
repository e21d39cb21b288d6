package gemini

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/core/llm"
)

// Codec is the Gemini format.
type Codec struct{}

var _ llm.Codec = Codec{}

// New makes the codec.
func New() Codec { return Codec{} }

// Format implements llm.Codec.
func (Codec) Format() llm.Format { return llm.Gemini }

// Framing implements llm.Codec.
func (Codec) Framing(op llm.Operation, contentType string) llm.Framing {
	switch {
	case llm.IsEventStream(contentType):
		return llm.FrameSSE
	case op == llm.OpStreamGenerate && llm.IsJSON(contentType):
		return llm.FrameArray
	}
	return llm.FrameNone
}

// ForwardHeaders implements llm.Codec. Version and beta stand in the path;
// x-goog-api-client names the SDK, on which Google makes some features depend.
func (Codec) ForwardHeaders() []string { return []string{"X-Goog-Api-Client"} }

// ParseError implements llm.Codec.
func (Codec) ParseError(body []byte) (typ, code, message string, ok bool) {
	return llm.ParseErrorBody(body)
}

// EncodeError implements llm.Codec. Error.Type is the status' name.
func (Codec) EncodeError(e llm.Error) []byte {
	b := append(make([]byte, 0, 256), `{"error":{"code":`...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = append(b, `,"message":`...)
	b = llm.AppendQuoted(b, llm.WithRequestID(e.Text(), e.RequestID))
	b = append(b, `,"status":`...)
	b = llm.AppendQuoted(b, e.Type)
	if e.RetryAfter > 0 {
		b = append(b, `,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"`...)
		b = strconv.AppendInt(b, int64(math.Ceil(e.RetryAfter.Seconds())), 10)
		b = append(b, `s"}]`...)
	}
	return append(b, "}}"...)
}

// EncodeStreamError implements llm.Codec. It is for streams of events; an array
// has no place for an error that would not make it look like a clean end, so
// its connection is to be ended (see Framing).
func (c Codec) EncodeStreamError(_ llm.Operation, e llm.Error) []byte {
	return append(append([]byte("data: "), c.EncodeError(e)...), "\n\n"...)
}

// The watched keys of a request.
const (
	fModel llm.Field = iota
	fContents
	fContent
	fRequests
	fSystem
	fSystemParts
	fConfig
	fMaxOutput
	fCandidates
	fTools
	fWhole
	fWholeModel
	fWholeContents
)

func table() []llm.Path {
	return []llm.Path{
		fModel:         {At: "model"},
		fContents:      {At: "contents", Text: true},
		fContent:       {At: "content", Text: true},
		fRequests:      {At: "requests", Text: true},
		fSystem:        {At: "systemInstruction|system_instruction", Text: true},
		fSystemParts:   {At: "systemInstruction|system_instruction.parts"},
		fConfig:        {At: "generationConfig|generation_config"},
		fMaxOutput:     {At: "generationConfig|generation_config.maxOutputTokens|max_output_tokens"},
		fCandidates:    {At: "generationConfig|generation_config.candidateCount|candidate_count"},
		fTools:         {At: "tools", Text: true},
		fWhole:         {At: "generateContentRequest|generate_content_request", Text: true},
		fWholeModel:    {At: "generateContentRequest|generate_content_request.model"},
		fWholeContents: {At: "generateContentRequest|generate_content_request.contents"},
	}
}

func schema(fields ...llm.Field) *llm.Schema { return llm.NewSchema(llm.Pick(table(), fields...)...) }

// The schemas of the operations, and that of one request of a batch.
var (
	generateSchema = schema(fModel, fContents, fSystem, fSystemParts, fConfig, fMaxOutput, fCandidates, fTools)
	embedSchema    = schema(fModel, fContent)
	batchSchema    = schema(fModel, fRequests)
	countSchema    = schema(fModel, fContents, fWhole, fWholeModel, fWholeContents)
)

// Parse implements llm.Codec.
func (Codec) Parse(op llm.Operation, _, pathModel string, body []byte) (*llm.Request, error) {
	r := &llm.Request{Operation: op, Model: strings.TrimPrefix(pathModel, "models/"), Choices: 1, Body: body}
	if r.Model == "" {
		return nil, &llm.BadRequest{Param: "model", Message: "is required in the path"}
	}
	if err := parse(r); err != nil {
		return nil, err
	}
	return r, nil
}

func parse(r *llm.Request) error {
	switch r.Operation {
	case llm.OpGenerate, llm.OpStreamGenerate:
		r.Stream = r.Operation == llm.OpStreamGenerate
		return parseGenerate(r)
	case llm.OpEmbedContent:
		if err := scan(r, embedSchema); err != nil {
			return err
		}
		return r.Document.RequireKind(fContent, "an object", llm.Object)
	case llm.OpBatchEmbed:
		return parseBatch(r)
	case llm.OpGeminiCount:
		return parseCount(r)
	}
	return &llm.BadRequest{Message: "the operation " + string(r.Operation) + " is not of this format"}
}

func scan(r *llm.Request, s *llm.Schema) error {
	d := &r.Document
	if err := d.Scan(s, r.Body); err != nil {
		return err
	}
	if d.Root != llm.Object {
		return &llm.BadRequest{Message: "the body must be a JSON object"}
	}
	r.Input = d.Tally.Tokens()
	return checkModel(r, d, d.Value(fModel))
}

// checkModel refuses a body that names another model than the path: the path's
// is what is billed. A request without a model is an edited one.
func checkModel(r *llm.Request, d *llm.Document, v llm.Value) error {
	if r.Model == "" || v.Kind <= llm.Null || v.Kind == llm.String && strings.TrimPrefix(d.Text(v), "models/") == r.Model {
		return nil
	}
	return &llm.BadRequest{Param: "model", Message: fmt.Sprintf("must be the model of the path, models/%s", r.Model)}
}

func parseGenerate(r *llm.Request) error {
	if err := scan(r, generateSchema); err != nil {
		return err
	}
	d := &r.Document
	if err := d.RequireKind(fContents, "an array or an object", llm.Array, llm.Object); err != nil {
		return err
	}
	if d.Empty(d.Value(fContents)) {
		return &llm.BadRequest{Param: "contents", Message: "must not be empty"}
	}
	if err := d.OptionalKind(fSystem, "an object", llm.Object); err != nil {
		return err
	}
	if err := d.OptionalKind(fSystemParts, "an array or an object", llm.Array, llm.Object); err != nil {
		return err
	}
	if err := d.OptionalKind(fConfig, "an object", llm.Object); err != nil {
		return err
	}
	var err error
	if r.MaxOutput, _, err = d.OptionalCount(fMaxOutput); err != nil {
		return err
	}
	n, given, err := d.OptionalCount(fCandidates)
	if err != nil {
		return err
	}
	if given {
		if n > maxChoices {
			return &llm.BadRequest{Param: "generationConfig.candidateCount", Message: "must be from 1 to 4096"}
		}
		r.Choices = max(1, n) // 0 is protobuf's unset
	}
	v := d.Value(fSystemParts)
	r.HasSystem = v.Kind > llm.Null && !d.Empty(v)
	return nil
}

// maxChoices is far above Google's limit (8) and keeps choices x tokens x ratio
// within 64 bit.
const maxChoices = 4096

func parseBatch(r *llm.Request) error {
	if err := scan(r, batchSchema); err != nil {
		return err
	}
	d := &r.Document
	if err := d.RequireKind(fRequests, "an array", llm.Array); err != nil {
		return err
	}
	if d.Empty(d.Value(fRequests)) {
		return &llm.BadRequest{Param: "requests", Message: "must not be empty"}
	}
	return eachModel(r, func(one *llm.Document, v, _ llm.Value) error { return checkModel(r, one, v) })
}

// eachModel calls f with the model of every request of a batch: its document,
// its place in it and the place of the request in the body.
func eachModel(r *llm.Request, f func(one *llm.Document, v, at llm.Value) error) error {
	d := &r.Document
	var one llm.Document
	return d.Each(d.Value(fRequests), func(at llm.Value) error {
		if at.Kind != llm.Object {
			return &llm.BadRequest{Param: "requests", Message: "must be an array of objects"}
		}
		if err := one.Scan(embedSchema, d.Raw(at)); err != nil {
			return err
		}
		return f(&one, one.Value(fModel), at)
	})
}

func parseCount(r *llm.Request) error {
	if err := scan(r, countSchema); err != nil {
		return err
	}
	d := &r.Document
	if !d.Has(fContents) && !d.Has(fWhole) {
		return &llm.BadRequest{Param: "contents", Message: "is required"}
	}
	return checkModel(r, d, d.Value(fWholeModel))
}

// Reparse implements llm.Codec.
func (Codec) Reparse(r *llm.Request, _ string, body []byte) (*llm.Request, error) {
	// The body now names upstream's model, if any: that is no contradiction.
	edited := &llm.Request{Operation: r.Operation, Choices: 1, Body: body}
	if err := parse(edited); err != nil {
		return nil, err
	}
	return r.Reparsed(edited), nil
}

// Edit implements llm.Codec. Upstream's model goes into the path, and into the
// body where that names the model too.
func (Codec) Edit(r *llm.Request, e llm.Edits) ([]byte, error) {
	var s llm.Splices
	if e.Model != "" && e.Model != r.Model {
		if err := editModel(&s, r, e.Model); err != nil {
			return nil, err
		}
	}
	generates := r.Operation == llm.OpGenerate || r.Operation == llm.OpStreamGenerate
	if generates && e.SystemPrompt != "" && (!r.HasSystem || e.SystemFirst) {
		editSystem(&s, &r.Document, e.SystemPrompt)
	}
	return e.Finish(r, s.Apply(r.Body))
}

func editModel(s *llm.Splices, r *llm.Request, model string) error {
	d := &r.Document
	for _, f := range []llm.Field{fModel, fWholeModel} {
		if v := d.Value(f); v.Kind == llm.String {
			s.Replace(v, modelText(d, v, model))
		}
	}
	return eachModel(r, func(one *llm.Document, v, at llm.Value) error {
		if v.Kind == llm.String {
			text := modelText(one, v, model)
			v.Start += at.Start
			v.End += at.Start
			s.Replace(v, text)
		}
		return nil
	})
}

// modelText is a model as JSON, with the prefix that the old one has.
func modelText(d *llm.Document, v llm.Value, model string) string {
	if strings.HasPrefix(d.Text(v), "models/") {
		model = "models/" + model
	}
	return llm.Quote(model)
}

func editSystem(s *llm.Splices, d *llm.Document, prompt string) {
	part := `{"text":` + llm.Quote(prompt) + `}`
	system, parts := d.Value(fSystem), d.Value(fSystemParts)
	switch {
	case system.Kind == llm.Absent:
		s.Member(d.Value(fContents), "systemInstruction", `{"parts":[`+part+`]}`)
	case system.Kind == llm.Null:
		s.Replace(system, `{"parts":[`+part+`]}`)
	case parts.Kind == llm.Absent:
		s.First(d, system, "parts", `[`+part+`]`)
	case parts.Kind == llm.Array:
		s.First(d, parts, "", part)
	case parts.Kind == llm.Object && !d.Empty(parts):
		s.Replace(parts, `[`+part+`,`+string(d.Raw(parts))+`]`)
	default:
		s.Replace(parts, `[`+part+`]`)
	}
}
