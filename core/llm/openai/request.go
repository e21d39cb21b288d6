package openai

import (
	"strings"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/core/llm"
)

// The watched keys of all operations; each operation's schema has some of them.
const (
	fModel llm.Field = iota
	fStream
	fStreamOptions
	fIncludeUsage
	fMaxTokens
	fMaxCompletionTokens
	fN
	fBestOf
	fMessages
	fMessage
	fRole
	fContent
	fTools
	fFunctions
	fResponseFormat
	fPrompt
	fSuffix
	fInput
	fQuery
	fDocuments
	fSize
	fQuality
	fInstructions
	fStreamFormat
	fImages
)

func table() []llm.Path {
	return []llm.Path{
		fModel:               {At: "model"},
		fStream:              {At: "stream"},
		fStreamOptions:       {At: "stream_options"},
		fIncludeUsage:        {At: "stream_options.include_usage"},
		fMaxTokens:           {At: "max_tokens"},
		fMaxCompletionTokens: {At: "max_completion_tokens"},
		fN:                   {At: "n"},
		fBestOf:              {At: "best_of"},
		fMessages:            {At: "messages", Text: true},
		fMessage:             {At: "messages.#", Role: fRole, Content: fContent},
		fRole:                {At: "messages.#.role"},
		fContent:             {At: "messages.#.content"},
		fTools:               {At: "tools", Text: true},
		fFunctions:           {At: "functions", Text: true},
		fResponseFormat:      {At: "response_format", Text: true},
		fPrompt:              {At: "prompt", Text: true},
		fSuffix:              {At: "suffix", Text: true},
		fInput:               {At: "input", Text: true},
		fQuery:               {At: "query", Text: true},
		fDocuments:           {At: "documents", Text: true},
		fSize:                {At: "size"},
		fQuality:             {At: "quality"},
		fInstructions:        {At: "instructions", Text: true},
		fStreamFormat:        {At: "stream_format"},
		fImages:              {At: "images", Text: true},
	}
}

func schema(fields ...llm.Field) *llm.Schema { return llm.NewSchema(llm.Pick(table(), fields...)...) }

// schemas of the operations that take JSON.
var (
	chatSchema = schema(fModel, fStream, fStreamOptions, fIncludeUsage, fMaxTokens, fMaxCompletionTokens, fN,
		fMessages, fMessage, fRole, fContent, fTools, fFunctions, fResponseFormat)
	completionsSchema = schema(fModel, fStream, fStreamOptions, fIncludeUsage, fMaxTokens, fN, fBestOf, fPrompt, fSuffix)
	inputSchema       = schema(fModel, fInput)
	rerankSchema      = schema(fModel, fQuery, fDocuments)
	imagesSchema      = schema(fModel, fStream, fN, fPrompt, fSize, fQuality, fImages)
	speechSchema      = schema(fModel, fInput, fInstructions, fStreamFormat)
)

// The models that OpenAI takes when the request names none.
const (
	defaultModeration = "omni-moderation-latest"
	defaultImage      = "dall-e-2"
)

// Parse implements llm.Codec.
func (Codec) Parse(op llm.Operation, contentType, _ string, body []byte) (*llm.Request, error) {
	r := &llm.Request{Operation: op, Choices: 1, Body: body}
	var err error
	switch op {
	case llm.OpChat:
		err = parseChat(r)
	case llm.OpCompletions:
		err = parseCompletions(r)
	case llm.OpEmbeddings:
		err = parseEmbeddings(r)
	case llm.OpModerations:
		err = parseModerations(r)
	case llm.OpRerank:
		err = parseRerank(r)
	case llm.OpImageGenerations:
		err = parseImages(r)
	case llm.OpImageEdits:
		if llm.IsJSON(contentType) {
			err = parseImages(r)
		} else {
			err = parseImageForm(r, contentType)
		}
	case llm.OpTranscriptions, llm.OpTranslations:
		err = parseAudioForm(r, contentType)
	case llm.OpSpeech:
		err = parseSpeech(r)
	default:
		err = &llm.BadRequest{Message: "the operation " + string(op) + " is not of this format"}
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// scan indexes the body and reads the model, or takes the default if there is one.
func scan(r *llm.Request, s *llm.Schema, defaultModel string) error {
	if err := r.Document.Scan(s, r.Body); err != nil {
		return err
	}
	d := &r.Document
	if d.Root != llm.Object {
		return &llm.BadRequest{Message: "the body must be a JSON object"}
	}
	var err error
	if defaultModel != "" && !d.Has(fModel) {
		r.Model = defaultModel
	} else if r.Model, err = d.RequireText(fModel); err != nil {
		return err
	}
	r.Input = d.Tally.Tokens()
	return nil
}

func parseChat(r *llm.Request) error {
	if err := scan(r, chatSchema, ""); err != nil {
		return err
	}
	d := &r.Document
	if err := d.RequireKind(fMessages, "an array", llm.Array); err != nil {
		return err
	}
	if d.Empty(d.Value(fMessages)) {
		return &llm.BadRequest{Param: "messages", Message: "must not be empty"}
	}
	r.HasSystem = d.System.Kind != llm.Absent
	return parseGeneration(r)
}

func parseCompletions(r *llm.Request) error {
	if err := scan(r, completionsSchema, ""); err != nil {
		return err
	}
	d := &r.Document
	if err := d.RequireKind(fPrompt, "a string or an array", llm.String, llm.Array); err != nil {
		return err
	}
	if err := parseGeneration(r); err != nil {
		return err
	}
	best, _, err := d.OptionalCount(fBestOf)
	if err != nil {
		return err
	}
	// Every candidate of every prompt is billed.
	r.Choices = max(r.Choices, best) * prompts(d)
	return nil
}

// prompts is how many prompts a completion has: each element of a list, but a
// list of numbers is one prompt in tokens.
func prompts(d *llm.Document) int64 {
	n := int64(0)
	_ = d.Each(d.Value(fPrompt), func(v llm.Value) error { // f never fails
		if v.Kind == llm.String || v.Kind == llm.Array {
			n++
		}
		return nil
	})
	return max(n, 1)
}

// parseGeneration reads what chat and completions have in common.
func parseGeneration(r *llm.Request) error {
	d := &r.Document
	var err error
	if r.Stream, _, err = d.OptionalBool(fStream); err != nil {
		return err
	}
	if err = d.OptionalKind(fStreamOptions, "an object", llm.Object); err != nil {
		return err
	}
	if r.WantUsage, _, err = d.OptionalBool(fIncludeUsage); err != nil {
		return err
	}
	// Vendors differ in which of the two they read: the larger one is the bound.
	older, _, err := d.OptionalCount(fMaxTokens)
	if err != nil {
		return err
	}
	newer, _, err := d.OptionalCount(fMaxCompletionTokens)
	if err != nil {
		return err
	}
	r.MaxOutput = max(older, newer)
	return parseChoices(r)
}

func parseChoices(r *llm.Request) error {
	n, given, err := r.Document.OptionalCount(fN)
	if err != nil {
		return err
	}
	if given {
		return setChoices(r, n)
	}
	return nil
}

// maxChoices is far above every vendor's limit (OpenAI: 128) and keeps choices x
// tokens x ratio within 64 bit.
const maxChoices = 4096

func setChoices(r *llm.Request, n int64) error {
	if n < 1 || n > maxChoices {
		return &llm.BadRequest{Param: "n", Message: "must be from 1 to 4096"}
	}
	r.Choices = n
	return nil
}

func parseEmbeddings(r *llm.Request) error {
	if err := scan(r, inputSchema, ""); err != nil {
		return err
	}
	return r.Document.RequireKind(fInput, "a string or an array", llm.String, llm.Array)
}

func parseModerations(r *llm.Request) error {
	if err := scan(r, inputSchema, defaultModeration); err != nil {
		return err
	}
	return r.Document.RequireKind(fInput, "a string or an array", llm.String, llm.Array)
}

func parseRerank(r *llm.Request) error {
	if err := scan(r, rerankSchema, ""); err != nil {
		return err
	}
	d := &r.Document
	if err := d.RequireKind(fQuery, "a string or an object", llm.String, llm.Object); err != nil {
		return err
	}
	if err := d.RequireKind(fDocuments, "an array", llm.Array); err != nil {
		return err
	}
	if d.Empty(d.Value(fDocuments)) {
		return &llm.BadRequest{Param: "documents", Message: "must not be empty"}
	}
	return nil
}

func parseImages(r *llm.Request) error {
	if err := scan(r, imagesSchema, defaultImage); err != nil {
		return err
	}
	d := &r.Document
	if _, err := d.RequireText(fPrompt); err != nil {
		return err
	}
	var err error
	if r.Stream, _, err = d.OptionalBool(fStream); err != nil {
		return err
	}
	if r.Image.Size, err = d.OptionalText(fSize); err != nil {
		return err
	}
	if r.Image.Quality, err = d.OptionalText(fQuality); err != nil {
		return err
	}
	return parseChoices(r)
}

func parseSpeech(r *llm.Request) error {
	if err := scan(r, speechSchema, ""); err != nil {
		return err
	}
	d := &r.Document
	text, err := d.RequireText(fInput)
	if err != nil {
		return err
	}
	format, err := d.OptionalText(fStreamFormat)
	if err != nil {
		return err
	}
	r.Stream = format == "sse"
	if strings.HasPrefix(r.Model, "tts-") {
		// Priced by the character: New API counts one token for each.
		r.Input = int64(utf8.RuneCountInString(text))
	}
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
	if r.Form != nil {
		return r.Form.SetModel(r, e)
	}
	var s llm.Splices
	s.Model(r, fModel, e)
	switch r.Operation {
	case llm.OpChat:
		editSystem(&s, r, e)
		fallthrough
	case llm.OpCompletions:
		if e.IncludeUsage && r.Stream && !r.WantUsage {
			editUsage(&s, &r.Document)
		}
	}
	return e.Finish(r, s.Apply(r.Body))
}

// editUsage asks for the usage chunk.
func editUsage(s *llm.Splices, d *llm.Document) {
	options, flag := d.Value(fStreamOptions), d.Value(fIncludeUsage)
	switch {
	case options.Kind == llm.Absent:
		s.Member(d.Value(fStream), "stream_options", `{"include_usage":true}`)
	case options.Kind == llm.Null:
		s.Replace(options, `{"include_usage":true}`)
	case flag.Kind == llm.Absent:
		s.First(d, options, "include_usage", "true")
	default:
		s.Replace(flag, "true")
	}
}

// editSystem adds the channel's system prompt: as a message of its own where the
// request has none, else before the text of the first one.
func editSystem(s *llm.Splices, r *llm.Request, e llm.Edits) {
	if e.SystemPrompt == "" || r.HasSystem && !e.SystemFirst {
		return
	}
	d := &r.Document
	switch d.System.Kind {
	case llm.String:
		s.Prefix(d.System, e.SystemPrompt)
	case llm.Array:
		s.First(d, d.System, "", `{"type":"text","text":`+llm.Quote(e.SystemPrompt)+`}`)
	default:
		s.First(d, d.Value(fMessages), "", `{"role":"system","content":`+llm.Quote(e.SystemPrompt)+`}`)
	}
}
