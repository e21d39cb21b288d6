package responses

import (
	"bytes"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core/llm"
)

// The watched keys of answers and stream events.
const (
	aType llm.Field = iota
	aDelta
	aItem
	aItemType
	aResponse
	aResponseUsage
	aUsage
	aError
	aOutput
	aOutputItem
	aOutputContent
	aOutputPart
	aOutputText
	aOutputArguments
	aStatus
)

var answerSchema = llm.NewAnswerSchema(
	llm.Path{At: "type"},
	llm.Path{At: "delta", Text: true},
	llm.Path{At: "item"},
	llm.Path{At: "item.type"},
	llm.Path{At: "response"},
	llm.Path{At: "response.usage"},
	llm.Path{At: "usage"},
	llm.Path{At: "error"},
	llm.Path{At: "output"},
	llm.Path{At: "output.#"},
	llm.Path{At: "output.#.content"},
	llm.Path{At: "output.#.content.#"},
	llm.Path{At: "output.#.content.#.text", Text: true},
	llm.Path{At: "output.#.arguments", Text: true},
	llm.Path{At: "status"},
)

// tap reads an answer.
type tap struct {
	llm.Answer
	r                                   *llm.Request
	webSearch, fileSearch, imageDrawing int64
}

// NewTap implements llm.Codec.
func (Codec) NewTap(r *llm.Request) llm.Tap { return &tap{r: r} }

// Event implements llm.Tap.
func (t *tap) Event(data []byte) llm.Verdict {
	if len(data) == 0 || data[0] != '{' || !t.Read(answerSchema, data) {
		return llm.Pass
	}
	d := &t.Doc
	typ := d.Value(aType)
	if typ.Kind != llm.String {
		if d.Has(aError) {
			return llm.Failed
		}
		return llm.Pass
	}
	switch name := d.Raw(typ); {
	case bytes.HasSuffix(name, []byte(`.delta"`)):
	case string(name) == `"response.output_item.done"`:
		t.called(d.Raw(d.Value(aItemType)))
	case string(name) == `"response.completed"`, string(name) == `"response.incomplete"`:
		t.Keep(d.Value(aResponseUsage))
		t.Finished = true
	case string(name) == `"response.failed"`, string(name) == `"response.cancelled"`:
		t.Keep(d.Value(aResponseUsage))
		return llm.Failed
	case string(name) == `"error"`:
		return llm.Failed
	}
	return llm.Pass
}

// called counts an output item that is the call of a billed tool.
func (t *tap) called(typ []byte) {
	switch string(typ) {
	case `"web_search_call"`:
		t.webSearch++
	case `"file_search_call"`:
		t.fileSearch++
	case `"image_generation_call"`:
		t.imageDrawing++
	}
}

// Body implements llm.Tap.
func (t *tap) Body(_ string, body []byte) {
	if !t.Read(answerSchema, body) {
		return
	}
	d := &t.Doc
	t.Keep(d.Value(aUsage))
	t.Finished = !d.Has(aError)
	_ = d.Each(d.Value(aOutput), func(v llm.Value) error {
		t.called([]byte(gjson.GetBytes(d.Raw(v), "type").Raw))
		return nil
	})
}

// Usage implements llm.Tap.
func (t *tap) Usage() (llm.Usage, bool) {
	u, ok := llm.OpenAIUsage(t.Kept())
	if ok {
		u.Tools = t.tools()
	}
	return u, ok
}

// Estimate implements llm.Tap.
func (t *tap) Estimate() llm.Usage {
	u := t.EstimateOf(t.r)
	u.Tools = t.tools()
	return u
}

func (t *tap) tools() []llm.ToolCalls {
	var out []llm.ToolCalls
	add := func(name string, calls int64) {
		if calls > 0 {
			out = append(out, llm.ToolCalls{Name: name, Calls: calls})
		}
	}
	search := "web_search"
	if t.webSearch > 0 && usesPreview(t.r) {
		search = "web_search_preview"
	}
	add(search, t.webSearch)
	add("file_search", t.fileSearch)
	add("image_generation", t.imageDrawing)
	return out
}

// Complete implements llm.Tap.
func (t *tap) Complete() bool { return t.Finished }
