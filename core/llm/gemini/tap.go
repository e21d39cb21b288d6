package gemini

import (
	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core/llm"
)

// The watched keys of answers and stream chunks.
const (
	aUsage llm.Field = iota
	aCandidates
	aCandidate
	aContent
	aParts
	aPart
	aText
	aCall
	aFinish
	aGrounding
	aQueries
	aFeedback
	aBlocked
	aError
	aTotal
)

var answerSchema = llm.NewAnswerSchema(
	llm.Path{At: "usageMetadata"},
	llm.Path{At: "candidates"},
	llm.Path{At: "candidates.#"},
	llm.Path{At: "candidates.#.content"},
	llm.Path{At: "candidates.#.content.parts"},
	llm.Path{At: "candidates.#.content.parts.#"},
	llm.Path{At: "candidates.#.content.parts.#.text", Text: true},
	llm.Path{At: "candidates.#.content.parts.#.functionCall", Text: true},
	llm.Path{At: "candidates.#.finishReason"},
	llm.Path{At: "candidates.#.groundingMetadata"},
	llm.Path{At: "candidates.#.groundingMetadata.webSearchQueries"},
	llm.Path{At: "promptFeedback"},
	llm.Path{At: "promptFeedback.blockReason"},
	llm.Path{At: "error"},
	llm.Path{At: "totalTokens"}, // the answer of countTokens
)

// tap reads an answer.
type tap struct {
	llm.Answer
	r        *llm.Request
	ends     int64
	searched bool
	counted  int64
}

// NewTap implements llm.Codec.
func (Codec) NewTap(r *llm.Request) llm.Tap { return &tap{r: r} }

// Event implements llm.Tap.
func (t *tap) Event(data []byte) llm.Verdict {
	if len(data) == 0 || data[0] != '{' || !t.Read(answerSchema, data) {
		return llm.Pass
	}
	d := &t.Doc
	t.look(d)
	if d.Has(aError) {
		return llm.Failed
	}
	if d.Value(aFinish).Kind == llm.String {
		t.ends += max(1, d.Ends(d.Value(aCandidates), "finishReason"))
	}
	t.Finished = t.Finished || t.ends >= t.r.Choices || d.Value(aBlocked).Kind == llm.String
	return llm.Pass
}

func (t *tap) look(d *llm.Document) {
	t.Keep(d.Value(aUsage))
	if q := d.Value(aQueries); q.Kind == llm.Array && !d.Empty(q) {
		t.searched = true
	}
}

// Body implements llm.Tap.
func (t *tap) Body(_ string, body []byte) {
	if !t.Read(answerSchema, body) {
		return
	}
	t.look(&t.Doc)
	t.Finished = !t.Doc.Has(aError)
	if t.Doc.Value(aTotal).Kind == llm.Number {
		t.counted = llm.Count(gjson.ParseBytes(body), "totalTokens")
	}
}

// Usage implements llm.Tap.
func (t *tap) Usage() (llm.Usage, bool) {
	u, ok := usageOf(t.Kept())
	if !ok && t.counted > 0 {
		u, ok = llm.Usage{Input: t.counted}, true
	}
	if ok {
		t.tools(&u)
	}
	return u, ok
}

// Estimate implements llm.Tap.
func (t *tap) Estimate() llm.Usage {
	u := t.EstimateOf(t.r)
	t.tools(&u)
	return u
}

// tools counts a grounded answer as one search, as Google bills it.
func (t *tap) tools(u *llm.Usage) {
	if t.searched {
		u.Tools = []llm.ToolCalls{{Name: "google_search", Calls: 1}}
	}
}

// Complete implements llm.Tap.
func (t *tap) Complete() bool { return t.Finished }

// usageOf makes usageMetadata disjoint. promptTokenCount has the cached tokens
// in it, and its details have them too, so that cached sound and pictures are
// taken off the details; thoughts and the prompts of tools stand beside the counts.
func usageOf(raw []byte) (u llm.Usage, ok bool) {
	r := gjson.ParseBytes(raw)
	if !r.IsObject() {
		return u, false
	}
	prompt := llm.Count(r, "promptTokenCount") + llm.Count(r, "toolUsePromptTokenCount")
	thoughts, output := llm.Count(r, "thoughtsTokenCount"), llm.Count(r, "candidatesTokenCount", "responseTokenCount")
	if total := llm.Count(r, "totalTokenCount"); output == 0 {
		output = max(0, total-prompt-thoughts)
	}
	u.CacheRead = llm.Count(r, "cachedContentTokenCount")
	u.AudioInput = max(0, modality(r, "promptTokensDetails", "AUDIO")-modality(r, "cacheTokensDetails", "AUDIO"))
	u.ImageInput = max(0, modality(r, "promptTokensDetails", "IMAGE")-modality(r, "cacheTokensDetails", "IMAGE"))
	u.SplitPrompt(prompt)
	u.AudioOutput = min(modality(r, "candidatesTokensDetails", "AUDIO"), output)
	u.Output = output - u.AudioOutput + thoughts
	u.Reasoning = thoughts
	return u, u.Total() > 0
}

// modality is the count of one kind in a list of details.
func modality(r gjson.Result, list, kind string) (n int64) {
	r.Get(list).ForEach(func(_, v gjson.Result) bool {
		if v.Get("modality").Str == kind {
			n += llm.Count(v, "tokenCount")
		}
		return true
	})
	return n
}
