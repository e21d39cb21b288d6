package openai

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core/llm"
)

// The watched keys of answers and stream chunks.
const (
	aChoices llm.Field = iota
	aChoice
	aDelta
	aContent
	aReasoningContent
	aReasoning
	aRefusal
	aToolCalls
	aToolCall
	aFunction
	aName
	aArguments
	aAudio
	aTranscript
	aText
	aFinish
	aUsage
	aError
	aType
	aAudioDelta
	aWholeText
	aDuration
	aMeta
	aTokens
)

var answerSchema = llm.NewAnswerSchema(
	llm.Path{At: "choices"},
	llm.Path{At: "choices.#"},
	llm.Path{At: "choices.#.delta|message"},
	llm.Path{At: "choices.#.delta|message.content", Text: true},
	llm.Path{At: "choices.#.delta|message.reasoning_content", Text: true},
	llm.Path{At: "choices.#.delta|message.reasoning", Text: true},
	llm.Path{At: "choices.#.delta|message.refusal", Text: true},
	llm.Path{At: "choices.#.delta|message.tool_calls"},
	llm.Path{At: "choices.#.delta|message.tool_calls.#"},
	llm.Path{At: "choices.#.delta|message.tool_calls.#.function"},
	llm.Path{At: "choices.#.delta|message.tool_calls.#.function.name", Text: true},
	llm.Path{At: "choices.#.delta|message.tool_calls.#.function.arguments", Text: true},
	llm.Path{At: "choices.#.delta|message.audio"},
	llm.Path{At: "choices.#.delta|message.audio.transcript", Text: true},
	llm.Path{At: "choices.#.text", Text: true},
	llm.Path{At: "choices.#.finish_reason"},
	llm.Path{At: "usage"},
	llm.Path{At: "error"},
	llm.Path{At: "type"},
	llm.Path{At: "delta", Text: true}, // transcript.text.delta
	llm.Path{At: "text", Text: true},  // a transcription
	llm.Path{At: "duration"},
	llm.Path{At: "meta"},
	llm.Path{At: "tokens"},
)

// tap reads the answers of all operations.
type tap struct {
	llm.Answer
	r     *llm.Request
	ends  int64 // finish reasons so far
	extra llm.Usage
}

// NewTap implements llm.Codec.
func (Codec) NewTap(r *llm.Request) llm.Tap { return &tap{r: r} }

var done = []byte("[DONE]")

// Event implements llm.Tap.
func (t *tap) Event(data []byte) llm.Verdict {
	if len(data) > 0 && data[0] != '{' {
		if bytes.Equal(bytes.TrimSpace(data), done) {
			t.Finished = true
		}
		return llm.Pass
	}
	before := t.Output
	if !t.Read(answerSchema, data) {
		return llm.Pass
	}
	d := &t.Doc
	usage := d.Value(aUsage)
	t.Keep(usage)
	if d.Has(aError) {
		return llm.Failed
	}
	if d.Value(aFinish).Kind == llm.String {
		t.ends += max(1, d.Ends(d.Value(aChoices), "finish_reason"))
		t.Finished = t.Finished || t.ends >= t.r.Choices
	}
	typ := d.Value(aType)
	if d.IsText(typ, "error") {
		return llm.Failed
	}
	switch t.r.Operation {
	case llm.OpChat, llm.OpCompletions:
		if usage.Kind == llm.Object && !t.r.WantUsage && pureUsage(d) {
			return llm.Withhold
		}
	default:
		t.typed(d.Text(typ), before)
	}
	return llm.Pass
}

// pureUsage reports whether a chunk carries usage and nothing for the client: no
// choices, or none at all.
func pureUsage(d *llm.Document) bool {
	c := d.Value(aChoices)
	return c.Kind <= llm.Null || c.Kind == llm.Array && d.Empty(c)
}

// typed are the events of image, transcription and speech streams. before is
// the output counted up to then: a closing event repeats the text.
func (t *tap) typed(typ string, before llm.Tally) {
	if !strings.HasSuffix(typ, ".done") && !strings.HasSuffix(typ, ".completed") {
		return
	}
	t.Finished = true
	if before != (llm.Tally{}) {
		t.Output = before
	}
}

// Body implements llm.Tap.
func (t *tap) Body(contentType string, body []byte) {
	if !t.Read(answerSchema, body) {
		t.Finished = !llm.IsJSON(contentType)
		if t.Finished && llm.IsText(contentType) && t.r.Operation != llm.OpSpeech {
			t.Output.Add(string(body)) // a transcription as plain text or subtitles
		}
		return
	}
	d := &t.Doc
	t.Finished = !d.Has(aError)
	t.Keep(d.Value(aUsage))
	if t.Kept() == nil {
		t.extra = unusual(d)
	}
}

// unusual reads usage where vendors keep it apart from "usage": Cohere's
// meta.billed_units and meta.tokens, SiliconFlow's tokens, the duration of a
// verbose transcription.
func unusual(d *llm.Document) llm.Usage {
	for _, at := range []struct {
		f    llm.Field
		path string
	}{{aMeta, "billed_units"}, {aMeta, "tokens"}, {aTokens, "@this"}} {
		v := d.Value(at.f)
		if v.Kind != llm.Object {
			continue
		}
		if u, ok := llm.OpenAIUsage([]byte(gjson.GetBytes(d.Raw(v), at.path).Raw)); ok {
			return u
		}
	}
	if v := d.Value(aDuration); v.Kind == llm.Number {
		return llm.Usage{Input: llm.DurationTokens(gjson.ParseBytes(d.Raw(v)).Num)}
	}
	return llm.Usage{}
}

// Usage implements llm.Tap.
func (t *tap) Usage() (llm.Usage, bool) {
	u, ok := llm.OpenAIUsage(t.Kept())
	if !ok {
		u, ok = t.extra, t.extra.Total() > 0
	}
	if ok {
		t.tools(&u)
	}
	return u, ok
}

// Estimate implements llm.Tap.
func (t *tap) Estimate() llm.Usage {
	u := t.EstimateOf(t.r)
	switch t.r.Operation {
	case llm.OpEmbeddings, llm.OpModerations, llm.OpRerank, llm.OpSpeech:
		u.Output = 0
	}
	t.tools(&u)
	return u
}

// tools counts the web search that the search models of chat do once in every
// request, and that their vendor bills apart.
func (t *tap) tools(u *llm.Usage) {
	if t.r.Operation == llm.OpChat && strings.Contains(t.r.Model, "-search-preview") {
		u.Tools = []llm.ToolCalls{{Name: "web_search_preview", Calls: 1}}
	}
}

// Complete implements llm.Tap.
func (t *tap) Complete() bool { return t.Finished }
