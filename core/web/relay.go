package web

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// relayOps are the relay routes whose model stands in the body.
var relayOps = map[string]llm.Operation{
	"/v1/chat/completions":      llm.OpChat,
	"/v1/completions":           llm.OpCompletions,
	"/v1/embeddings":            llm.OpEmbeddings,
	"/v1/moderations":           llm.OpModerations,
	"/v1/rerank":                llm.OpRerank,
	"/v1/images/generations":    llm.OpImageGenerations,
	"/v1/images/edits":          llm.OpImageEdits,
	"/v1/audio/transcriptions":  llm.OpTranscriptions,
	"/v1/audio/translations":    llm.OpTranslations,
	"/v1/audio/speech":          llm.OpSpeech,
	"/v1/responses":             llm.OpResponses,
	"/v1/messages":              llm.OpMessages,
	"/v1/messages/count_tokens": llm.OpMessagesCount,
}

// geminiOps are the actions after the colon of a Gemini path.
var geminiOps = map[string]llm.Operation{
	"generateContent":       llm.OpGenerate,
	"streamGenerateContent": llm.OpStreamGenerate,
	"embedContent":          llm.OpEmbedContent,
	"batchEmbedContents":    llm.OpBatchEmbed,
	"countTokens":           llm.OpGeminiCount,
}

// notOffered are routes of the vendors that this gateway knows and does not
// serve: a client learns that from 501 and does not look for a typing error.
var notOffered = []string{
	"/v1/images/variations", "/v1/edits", "/v1/engines/*", "/v1/realtime", "/v1/files", "/v1/files/*", "/v1/uploads", "/v1/uploads/*",
	"/v1/fine-tunes", "/v1/fine-tunes/*", "/v1/fine_tuning/*", "/v1/batches", "/v1/batches/*", "/v1/assistants", "/v1/assistants/*",
	"/v1/threads", "/v1/threads/*", "/v1/vector_stores", "/v1/vector_stores/*", "/v1/responses/*", "/v1/messages/batches", "/v1/messages/batches/*",
	"/v1/alpha/search", "/v1/videos", "/v1/videos/*", "/v1/video/*", "/v1beta/cachedContents", "/v1beta/files", "/v1beta/files/*",
}

func (s *Server) relayRoutes() []route {
	var out []route
	for _, path := range slices.Sorted(maps.Keys(relayOps)) {
		op := relayOps[path]
		out = append(out, route{method: "POST", path: path, caller: callRelay, limit: limitNone, op: op, format: op.Format()})
	}
	for _, path := range notOffered {
		out = append(out, route{method: "*", path: path, caller: callRelay, limit: limitNone, format: formatOfPath(path), bare: true, handler: s.refuseNotOffered})
	}
	relay := func(method, path string, format llm.Format, h func(c *call) error) route {
		return route{method: method, path: path, caller: callRelay, limit: limitNone, format: format, bare: true, slow: true, handler: h}
	}
	return append(out,
		relay("GET", "/v1/models", llm.OpenAI, s.listModels),
		relay("GET", "/v1/models/*", llm.OpenAI, s.listModels),
		relay("DELETE", "/v1/models/*", llm.OpenAI, s.refuseNotOffered),
		relay("POST", "/v1/models/*", llm.Gemini, s.geminiAction),
		relay("GET", "/v1beta/models", llm.Gemini, s.listGeminiModels),
		relay("GET", "/v1beta/models/*", llm.Gemini, s.listGeminiModels),
		relay("POST", "/v1beta/models/*", llm.Gemini, s.geminiAction),
		relay("GET", "/v1beta/openai/models", llm.OpenAI, s.listOpenAIModels),
		relay("GET", "/v1beta/openai/models/*", llm.OpenAI, s.listOpenAIModels),
	)
}

func (s *Server) refuseNotOffered(c *call) error {
	return core.Errorf(core.CodeNotImplemented, "API not implemented")
}

// listModels answers in the format whose client the headers give away.
func (s *Server) listModels(c *call) error {
	return s.models(c, modelsFormat(c.r))
}

// models is a list, or one model, in a format.
func (s *Server) models(c *call, format llm.Format) error {
	sendWithin(c.w, func() { s.o.Relay.Models(c.w, c.r, format, c.param("*")) })
	return nil
}

// modelsFormat is New API's rule.
func modelsFormat(r *http.Request) llm.Format {
	switch {
	case r.Header.Get("X-Api-Key") != "" && r.Header.Get("Anthropic-Version") != "":
		return llm.Claude
	case r.Header.Get("X-Goog-Api-Key") != "", r.URL.Query().Get("key") != "":
		return llm.Gemini
	}
	return llm.OpenAI
}

func (s *Server) listGeminiModels(c *call) error {
	return s.models(c, llm.Gemini)
}

func (s *Server) listOpenAIModels(c *call) error {
	return s.models(c, llm.OpenAI)
}

// geminiAction serves {model}:{action}. Models may have slashes and colons; the
// action stands after the last colon.
func (s *Server) geminiAction(c *call) error {
	path := c.param("*")
	at := strings.LastIndexByte(path, ':')
	if at <= 0 {
		return core.Errorf(core.CodeInvalidURL, "Invalid URL (%s %s)", c.r.Method, c.r.URL.Path)
	}
	op, ok := geminiOps[path[at+1:]]
	if !ok {
		return core.Errorf(core.CodeNotImplemented, "API not implemented: %s", path[at+1:])
	}
	s.o.Relay.Serve(c.w, c.r, op, path[:at])
	return nil
}
