package claude

import (
	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core/llm"
)

// The watched keys of answers and stream events.
const (
	aType llm.Field = iota
	aMessage
	aMessageUsage
	aUsage
	aDelta
	aDeltaText
	aDeltaThinking
	aDeltaJSON
	aContent
	aPart
	aPartText
	aPartThinking
	aPartInput
	aError
	aInputTokens
)

var answerSchema = llm.NewAnswerSchema(
	llm.Path{At: "type"},
	llm.Path{At: "message"},
	llm.Path{At: "message.usage"},
	llm.Path{At: "usage"},
	llm.Path{At: "delta"},
	llm.Path{At: "delta.text", Text: true},
	llm.Path{At: "delta.thinking", Text: true},
	llm.Path{At: "delta.partial_json", Text: true},
	llm.Path{At: "content"},
	llm.Path{At: "content.#"},
	llm.Path{At: "content.#.text", Text: true},
	llm.Path{At: "content.#.thinking", Text: true},
	llm.Path{At: "content.#.input", Text: true},
	llm.Path{At: "error"},
	llm.Path{At: "input_tokens"}, // the answer of count_tokens
)

// tap reads an answer.
type tap struct {
	llm.Answer
	r     *llm.Request
	usage llm.Usage
	final bool // usage is that of the whole answer, not of its beginning
}

// NewTap implements llm.Codec.
func (Codec) NewTap(r *llm.Request) llm.Tap { return &tap{r: r, usage: llm.Usage{ClaudeStyle: true}} }

// Event implements llm.Tap.
func (t *tap) Event(data []byte) llm.Verdict {
	if len(data) == 0 || data[0] != '{' || !t.Read(answerSchema, data) {
		return llm.Pass
	}
	d := &t.Doc
	switch typ := d.Value(aType); {
	case d.IsText(typ, "message_start"):
		t.merge(d.Value(aMessageUsage))
	case d.IsText(typ, "message_delta"):
		t.final = t.merge(d.Value(aUsage)) || t.final
	case d.IsText(typ, "message_stop"):
		t.Finished = true
	case d.IsText(typ, "error"), d.Has(aError):
		return llm.Failed
	}
	return llm.Pass
}

// merge takes over what a usage object says: later numbers are cumulative and
// win, a number that it leaves out or has as zero stays. It reports whether the
// object knows the output.
func (t *tap) merge(v llm.Value) bool {
	if v.Kind != llm.Object {
		return false
	}
	r := gjson.ParseBytes(t.Doc.Raw(v))
	u := &t.usage
	put := func(to *int64, name string) {
		if n := llm.Count(r, name); n > 0 {
			*to = n
		}
	}
	put(&u.Input, "input_tokens")
	put(&u.CacheRead, "cache_read_input_tokens")
	put(&u.Output, "output_tokens")
	written := llm.Count(r, "cache_creation_input_tokens")
	short, long := llm.Count(r, "cache_creation.ephemeral_5m_input_tokens"), llm.Count(r, "cache_creation.ephemeral_1h_input_tokens")
	if written > 0 || short > 0 || long > 0 {
		u.CacheWrite1h = long
		u.CacheWrite = max(short, written-long)
	}
	if n := llm.Count(r, "server_tool_use.web_search_requests"); n > 0 {
		u.Tools = []llm.ToolCalls{{Name: "web_search", Calls: n}}
	}
	return llm.Count(r, "output_tokens") > 0
}

// Body implements llm.Tap.
func (t *tap) Body(_ string, body []byte) {
	if !t.Read(answerSchema, body) {
		return
	}
	d := &t.Doc
	t.Finished = !d.Has(aError)
	t.merge(d.Value(aUsage))
	t.final = t.usage.Total() > 0
	if v := d.Value(aInputTokens); v.Kind == llm.Number && !t.final {
		t.usage.Input = llm.Count(gjson.ParseBytes(body), "input_tokens")
		t.final = true
	}
}

// Usage implements llm.Tap. The numbers of a stream that was cut before its
// last ones are no report: message_start knows the prompt only.
func (t *tap) Usage() (llm.Usage, bool) {
	return t.usage, t.final && t.usage.Total() > 0
}

// Estimate implements llm.Tap. What the beginning of a stream told of the
// prompt is taken as it is.
func (t *tap) Estimate() llm.Usage {
	u := t.usage
	if u.Prompt()+u.CacheRead+u.CacheWrite+u.CacheWrite1h == 0 {
		u.Input = t.r.Input
	}
	u.Output = max(u.Output, t.Output.Tokens())
	return u
}

// Complete implements llm.Tap.
func (t *tap) Complete() bool { return t.Finished }
