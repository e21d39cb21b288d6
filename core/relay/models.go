package relay

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// endpoint is one way to use a model, in New API's word for it.
type endpoint struct {
	name string
	ops  []llm.Operation
}

var endpoints = [...]endpoint{
	{"openai", []llm.Operation{llm.OpChat, llm.OpCompletions}},
	{"openai-response", []llm.Operation{llm.OpResponses}},
	{"anthropic", []llm.Operation{llm.OpMessages}},
	{"gemini", []llm.Operation{llm.OpGenerate, llm.OpStreamGenerate}},
	{"embeddings", []llm.Operation{llm.OpEmbeddings}},
	{"jina-rerank", []llm.Operation{llm.OpRerank}},
	{"image-generation", []llm.Operation{llm.OpImageGenerations, llm.OpImageEdits}},
	{"audio", []llm.Operation{llm.OpTranscriptions, llm.OpTranslations, llm.OpSpeech}},
	{"moderations", []llm.Operation{llm.OpModerations}},
}

// modelCreated and its text are what New API tells of every model.
const (
	modelCreated     = 1626777600
	modelCreatedText = "2021-07-20T10:40:00Z"
)

// shownModel is a model that a token may use.
type shownModel struct {
	id    string
	owner string // provider of its first channel
	ops   map[llm.Operation]bool
}

// serves reports whether any of ops can be asked for.
func (m *shownModel) serves(ops ...llm.Operation) bool {
	return slices.ContainsFunc(ops, func(op llm.Operation) bool { return m.ops[op] })
}

// Models answers the list of models that the caller's token may use, or the one
// that model names, in the shape of format. It needs no database.
func (rl *Relay) Models(w http.ResponseWriter, r *http.Request, format llm.Format, model string) {
	codec := rl.o.Codecs[format]
	fail := func(err error) {
		e := core.AsError(err)
		le := rl.o.Describe(format, e)
		le.RequestID = core.RequestID(r.Context())
		writeError(w, codec, le, shouldRetry(e, le.Status))
	}
	cred, _, err := rl.Authenticate(r)
	if err != nil {
		fail(err)
		return
	}
	snap := rl.o.Snapshot()
	if snap == nil {
		fail(errStarting())
		return
	}
	if err := checkGroup(snap, cred); err != nil {
		fail(err)
		return
	}
	list := rl.modelsOf(snap, cred)
	list = slices.DeleteFunc(list, func(m *shownModel) bool { return !inShape(format, m) })
	var body any
	if model == "" {
		body = listBody(format, list)
	} else {
		model = strings.TrimPrefix(model, "models/")
		i := slices.IndexFunc(list, func(m *shownModel) bool { return m.id == model })
		if i < 0 {
			fail(&core.Error{Code: core.CodeModelNotFound, Status: http.StatusNotFound, Param: "model",
				Message: "The model \"" + clip(model, 128) + "\" does not exist, or this API key may not use it."})
			return
		}
		body = modelBody(format, list[i])
	}
	b, err := json.Marshal(body)
	if err != nil {
		fail(err)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(b)
}

// inShape reports whether a caller of format could use the model at all. The
// OpenAI shape is the general list: it tells with each model what it is for.
func inShape(format llm.Format, m *shownModel) bool {
	switch format {
	case llm.Claude:
		return m.serves(llm.OpMessages)
	case llm.Gemini:
		return m.serves(llm.OpGenerate, llm.OpStreamGenerate, llm.OpEmbedContent, llm.OpBatchEmbed)
	}
	return true
}

// modelsOf lists what a token may use, by name.
func (rl *Relay) modelsOf(s *core.Snapshot, cred core.Credential) []*shownModel {
	byID := map[string]*shownModel{}
	var out []*shownModel
	for _, g := range groupsOf(s, cred, "") {
		for _, id := range s.Models(g) {
			if !cred.Token.AllowsModel(id) {
				continue
			}
			m := byID[id]
			if m == nil {
				m = &shownModel{id: id, ops: map[llm.Operation]bool{}}
				byID[id] = m
				out = append(out, m)
			}
			rl.addOperations(m, s.Candidates(g, id))
		}
	}
	out = slices.DeleteFunc(out, func(m *shownModel) bool { return len(m.ops) == 0 })
	slices.SortFunc(out, func(a, b *shownModel) int { return strings.Compare(a.id, b.id) })
	return out
}

func (rl *Relay) addOperations(m *shownModel, tiers []*core.Tier) {
	seen := -1
	for _, t := range tiers {
		for _, c := range t.Channels {
			if c.Type == seen {
				continue
			}
			seen = c.Type
			row, ok := rl.o.Providers.Row(c.Type)
			if !ok {
				continue
			}
			if m.owner == "" {
				m.owner = row.Name
			}
			for _, op := range row.Operations() {
				m.ops[op] = true
			}
		}
	}
}

func listBody(format llm.Format, list []*shownModel) any {
	data := make([]any, len(list))
	for i, m := range list {
		data[i] = modelBody(format, m)
	}
	switch format {
	case llm.Claude:
		body := map[string]any{"data": data, "has_more": false, "first_id": nil, "last_id": nil}
		if len(list) > 0 {
			body["first_id"], body["last_id"] = list[0].id, list[len(list)-1].id
		}
		return body
	case llm.Gemini:
		return map[string]any{"models": data, "nextPageToken": nil}
	}
	return map[string]any{"success": true, "object": "list", "data": data}
}

func modelBody(format llm.Format, m *shownModel) any {
	switch format {
	case llm.Claude:
		return map[string]any{"id": m.id, "created_at": modelCreatedText, "display_name": m.id, "type": "model"}
	case llm.Gemini:
		var methods []string
		for _, op := range []llm.Operation{llm.OpGenerate, llm.OpStreamGenerate, llm.OpGeminiCount, llm.OpEmbedContent, llm.OpBatchEmbed} {
			if m.ops[op] {
				methods = append(methods, string(op))
			}
		}
		return map[string]any{"name": "models/" + m.id, "displayName": m.id, "supportedGenerationMethods": methods}
	}
	types := []string{}
	for _, e := range endpoints {
		if m.serves(e.ops...) {
			types = append(types, e.name)
		}
	}
	return map[string]any{"id": m.id, "object": "model", "created": modelCreated, "owned_by": m.owner, "supported_endpoint_types": types}
}
