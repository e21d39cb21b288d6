package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// file is configs/providers.yaml.
type file struct {
	Plans     map[string]map[llm.Format]string `yaml:"plans"`
	Providers []rowSpec                        `yaml:"providers"`
}

type rowSpec struct {
	Type          int                       `yaml:"type"`
	Name          string                    `yaml:"name"`
	BaseURL       string                    `yaml:"base_url"`
	FullURL       bool                      `yaml:"full_url"`
	Auth          Auth                      `yaml:"auth"`
	KeyOptional   bool                      `yaml:"key_optional"`
	Other         string                    `yaml:"other"`
	Organization  string                    `yaml:"organization_header"`
	StreamOptions bool                      `yaml:"stream_options"`
	Models        string                    `yaml:"models"`
	Formats       map[llm.Format]formatSpec `yaml:"formats"`
}

type formatSpec struct {
	Path       string                   `yaml:"path"`
	Query      string                   `yaml:"query"`
	Auth       Auth                     `yaml:"auth"`
	Headers    map[string]string        `yaml:"headers"`
	Operations []llm.Operation          `yaml:"operations"`
	Paths      map[llm.Operation]string `yaml:"paths"`
}

// Auth is how a key is shown to upstream.
type Auth string

// The ways to authenticate.
const (
	AuthBearer     Auth = "bearer"         // Authorization: Bearer KEY
	AuthXAPIKey    Auth = "x-api-key"      // Anthropic
	AuthGoogAPIKey Auth = "x-goog-api-key" // Gemini
	AuthAPIKey     Auth = "api-key"        // Azure
)

// header is the name that carries the key, canonical, and what stands before it.
func (a Auth) header() (name, prefix string, ok bool) {
	switch a {
	case AuthBearer:
		return "Authorization", "Bearer ", true
	case AuthXAPIKey:
		return "X-Api-Key", "", true
	case AuthGoogAPIKey:
		return "X-Goog-Api-Key", "", true
	case AuthAPIKey:
		return "Api-Key", "", true
	}
	return "", "", false
}

// suffixes are the ends of the paths, as the vendors that made the formats have
// them; a format's path stands before.
var suffixes = map[llm.Operation]string{
	llm.OpChat:             "/chat/completions",
	llm.OpCompletions:      "/completions",
	llm.OpEmbeddings:       "/embeddings",
	llm.OpModerations:      "/moderations",
	llm.OpRerank:           "/rerank",
	llm.OpImageGenerations: "/images/generations",
	llm.OpImageEdits:       "/images/edits",
	llm.OpTranscriptions:   "/audio/transcriptions",
	llm.OpTranslations:     "/audio/translations",
	llm.OpSpeech:           "/audio/speech",
	llm.OpResponses:        "/responses",
	llm.OpMessages:         "/messages",
	llm.OpMessagesCount:    "/messages/count_tokens",
	llm.OpGenerate:         "/models/{model}:generateContent",
	llm.OpStreamGenerate:   "/models/{model}:streamGenerateContent",
	llm.OpEmbedContent:     "/models/{model}:embedContent",
	llm.OpBatchEmbed:       "/models/{model}:batchEmbedContents",
	llm.OpGeminiCount:      "/models/{model}:countTokens",
}

// Catalogue is the table of providers by channel type. It is immutable but for
// UserAgent, which is set before use, and safe for concurrent use.
type Catalogue struct {
	// UserAgent is sent upstream instead of the client's own.
	UserAgent string
	// Pick draws a number below n; it chooses among the keys of a channel.
	Pick func(n int) int

	rows  map[int]*Row
	plans map[string]map[llm.Format]base

	mu       sync.RWMutex
	prepared map[int64]*prepared
}

// Row is one provider: what channels of its type can do and how.
type Row struct {
	Type          int    // New API's channel type
	Name          string // New API's name of it; the provider label of metrics
	BaseURL       string // "" = a channel must name its own
	StreamOptions bool   // upstream takes stream_options.include_usage

	cat          *Catalogue
	fullURL      bool
	keyOptional  bool
	other        string // default of channel.Other
	organization string // header that carries channel.Organization
	models       *target
	targets      map[llm.Operation]*target
}

// target is where and how one operation is sent.
type target struct {
	format  llm.Format
	path    template // the row's part: "/v1"
	suffix  template // the operation's part: "/chat/completions"
	query   template
	auth    string // header name
	prefix  string // before the key
	headers []headerDefault
	list    bool // the list of models
}

type headerDefault struct{ name, value string }

// Load reads and checks the catalogue. The error names the row and the key.
func Load(data []byte) (*Catalogue, error) {
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("provider catalogue: %w", err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("provider catalogue: more than one document")
	}
	c := &Catalogue{
		UserAgent: "sluice",
		Pick:      rand.IntN,
		rows:      make(map[int]*Row, len(f.Providers)),
		plans:     make(map[string]map[llm.Format]base, len(f.Plans)),
		prepared:  map[int64]*prepared{},
	}
	for name, formats := range f.Plans {
		if name == "" || strings.Contains(name, ":") {
			return nil, fmt.Errorf("provider catalogue: plans.%s: a plan's name must not look like a URL", name)
		}
		c.plans[name] = make(map[llm.Format]base, len(formats))
		for format, text := range formats {
			b, err := parseBase(text)
			if err == nil && !knownFormat(format) {
				err = fmt.Errorf("unknown format")
			}
			if err != nil {
				return nil, fmt.Errorf("provider catalogue: plans.%s.%s: %w", name, format, err)
			}
			c.plans[name][format] = b
		}
	}
	names := map[string]int{}
	for i := range f.Providers {
		s := &f.Providers[i]
		r, err := s.compile(c)
		if err != nil {
			return nil, fmt.Errorf("provider catalogue: providers[%d] (type %d, %q): %w", i, s.Type, s.Name, err)
		}
		if _, ok := c.rows[r.Type]; ok {
			return nil, fmt.Errorf("provider catalogue: providers[%d] (%q): type: %d occurs twice", i, s.Name, s.Type)
		}
		if other, ok := names[r.Name]; ok {
			return nil, fmt.Errorf("provider catalogue: providers[%d] (type %d): name: %q is the name of type %d as well", i, s.Type, s.Name, other)
		}
		c.rows[r.Type], names[r.Name] = r, r.Type
	}
	if len(c.rows) == 0 {
		return nil, fmt.Errorf("provider catalogue: providers: the list is empty")
	}
	return c, nil
}

func knownFormat(f llm.Format) bool {
	switch f {
	case llm.OpenAI, llm.Responses, llm.Claude, llm.Gemini:
		return true
	}
	return false
}

func (s *rowSpec) compile(c *Catalogue) (*Row, error) {
	r := &Row{
		Type: s.Type, Name: s.Name, BaseURL: s.BaseURL, StreamOptions: s.StreamOptions, cat: c,
		fullURL: s.FullURL, keyOptional: s.KeyOptional, other: s.Other, targets: map[llm.Operation]*target{},
	}
	switch {
	case s.Type <= 0:
		return nil, fmt.Errorf("type: must be a number above 0")
	case s.Name == "" || strings.TrimSpace(s.Name) != s.Name:
		return nil, fmt.Errorf("name: must not be empty or padded")
	case s.Other != "" && !plainWord(s.Other):
		return nil, fmt.Errorf("other: %q holds more than letters, digits and ._-", s.Other)
	case s.FullURL && s.BaseURL != "":
		return nil, fmt.Errorf("full_url: the URL is the channel's, so there is no base_url")
	case len(s.Formats) == 0:
		return nil, fmt.Errorf("formats: at least one is needed")
	}
	if s.BaseURL != "" {
		if _, err := parseBase(s.BaseURL); err != nil {
			return nil, fmt.Errorf("base_url: %w", err)
		}
	}
	if s.Organization != "" {
		r.organization = canonical(s.Organization)
		if r.organization == "" || forbidden(r.organization) {
			return nil, fmt.Errorf("organization_header: %q is no header that can be sent", s.Organization)
		}
	}
	for _, format := range []llm.Format{llm.OpenAI, llm.Responses, llm.Claude, llm.Gemini} {
		spec, ok := s.Formats[format]
		if !ok {
			continue
		}
		if err := spec.compile(r, s, format); err != nil {
			return nil, fmt.Errorf("formats.%s.%w", format, err)
		}
	}
	for format := range s.Formats {
		if !knownFormat(format) {
			return nil, fmt.Errorf("formats.%s: unknown format", format)
		}
	}
	return r, nil
}

func (f *formatSpec) compile(r *Row, s *rowSpec, format llm.Format) error {
	auth := f.Auth
	if auth == "" {
		auth = s.Auth
	}
	common := target{format: format}
	var ok bool
	if common.auth, common.prefix, ok = auth.header(); !ok {
		return fmt.Errorf("auth: %q is not bearer, x-api-key, x-goog-api-key or api-key", auth)
	}
	var err error
	if common.path, err = parsePath(f.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if s.FullURL && (f.Path != "" || f.Query != "" || len(f.Paths) > 0) {
		return fmt.Errorf("path: a row with full_url has no path, paths or query")
	}
	if common.query, err = parseQuery(f.Query); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	for name, value := range f.Headers {
		n := canonical(name)
		if n == "" || forbidden(n) || !validValue(value) {
			return fmt.Errorf("headers.%s: no header that can be sent", name)
		}
		common.headers = append(common.headers, headerDefault{n, value})
	}
	sort.Slice(common.headers, func(i, j int) bool { return common.headers[i].name < common.headers[j].name })
	if len(f.Operations) == 0 {
		return fmt.Errorf("operations: at least one is needed")
	}
	for _, op := range f.Operations {
		suffix, known := suffixes[op]
		switch {
		case !known:
			return fmt.Errorf("operations: %q is no operation", op)
		case op.Format() != format:
			return fmt.Errorf("operations: %q belongs to format %s", op, op.Format())
		case r.targets[op] != nil:
			return fmt.Errorf("operations: %q occurs twice", op)
		}
		t := common
		if own, has := f.Paths[op]; has {
			t.path, suffix = nil, own
		}
		if t.suffix, err = parsePath(suffix); err != nil {
			return fmt.Errorf("paths.%s: %w", op, err)
		}
		r.targets[op] = &t
	}
	for op := range f.Paths {
		if !slices.Contains(f.Operations, op) {
			return fmt.Errorf("paths.%s: the operation is not listed", op)
		}
	}
	if r.models == nil && s.Models != "" && !s.FullURL {
		t := common
		t.path, t.query, t.list = nil, nil, true
		if t.suffix, err = parsePath(s.Models); err != nil {
			return fmt.Errorf("models: %w", err)
		}
		r.models = &t
	}
	return nil
}

// Row finds the provider of a channel type.
func (c *Catalogue) Row(channelType int) (*Row, bool) {
	r, ok := c.rows[channelType]
	return r, ok
}

// Rows are all providers, by channel type.
func (c *Catalogue) Rows() []*Row {
	out := make([]*Row, 0, len(c.rows))
	for _, r := range c.rows {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Type < out[j].Type })
	return out
}

// Supports reports whether the provider takes an operation in its own format.
func (r *Row) Supports(op llm.Operation) bool {
	_, ok := r.targets[op]
	return ok
}

// Operations are what the provider takes, sorted.
func (r *Row) Operations() []llm.Operation {
	out := make([]llm.Operation, 0, len(r.targets))
	for op := range r.targets {
		out = append(out, op)
	}
	slices.Sort(out)
	return out
}

// Check reports what would keep a channel from being used: its type, base URL,
// key, header_override, other. It opens no connection. The error is an
// *core.Error of CodeChannelConfig or CodeChannelKey.
func (c *Catalogue) Check(ch *core.Channel) error {
	r, ok := c.rows[ch.Type]
	if !ok {
		return noRow(ch)
	}
	p := r.prepare(ch)
	if p.err != nil {
		return p.err
	}
	var wrong error
	for _, op := range r.Operations() {
		_, err := p.url(r.targets[op], "m", "")
		if err == nil {
			wrong = nil
			break
		}
		wrong = err
	}
	if wrong != nil {
		return wrong
	}
	if len(p.keys) == 0 && !r.keyOptional {
		return noKey(ch)
	}
	return nil
}

func noRow(ch *core.Channel) error {
	return core.Errorf(core.CodeChannelConfig, "channel #%d: type %d has no row in the provider catalogue, so it takes no operation", ch.ID, ch.Type)
}

func noKey(ch *core.Channel) error {
	return core.Errorf(core.CodeChannelKey, "channel #%d has no key", ch.ID)
}
