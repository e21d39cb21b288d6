package fakellm

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// openAIError is the error of OpenAI and of most who follow it.
func openAIError(b []byte, status int, typ, message string) []byte {
	code := "null"
	if typ == "" {
		switch {
		case status == http.StatusUnauthorized:
			typ, code = "invalid_request_error", `"invalid_api_key"`
		case status == http.StatusTooManyRequests:
			typ, code = "rate_limit_error", `"rate_limit_exceeded"`
		case status >= 500:
			typ, code = "server_error", `"server_error"`
		default:
			typ = "invalid_request_error"
		}
	} else {
		code = string(quote(nil, typ))
	}
	b = append(b, `{"error":{"message":`...)
	b = quote(b, message)
	b = append(b, `,"type":`...)
	b = quote(b, typ)
	b = append(b, `,"param":null,"code":`...)
	return append(append(b, code...), `}}`...)
}

// id is a name for an answer that the same request always gets.
func (c *call) id(prefix string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.f.model))
	_, _ = h.Write([]byte(c.body[max(0, len(c.body)-256):]))
	var x [8]byte
	binary.BigEndian.PutUint64(x[:], h.Sum64()+uint64(len(c.body)))
	const digits = "0123456789abcdef"
	b := make([]byte, 0, len(prefix)+16)
	b = append(b, prefix...)
	for _, v := range x {
		b = append(b, digits[v>>4], digits[v&15])
	}
	return string(b)
}

func (c *call) model() string {
	if c.k.Model != "" {
		return c.k.Model
	}
	return c.f.model
}

// need answers 400 when something that the vendor insists on is missing.
func (c *call) need(what string, v gjson.Result) bool {
	if !v.Exists() || v.Type == gjson.Null {
		c.fail(http.StatusBadRequest, "Missing required parameter: '"+what+"'.")
		return false
	}
	return c.needModel()
}

func (c *call) needModel() bool {
	if c.f.model == "" {
		c.fail(http.StatusBadRequest, "you must provide a model parameter")
		return false
	}
	return true
}

// promptSize is the number of bytes of all texts, and the last user text.
func (c *call) promptSize() (size int, last string) {
	var s string
	gather(c.f.system, &size, &s)
	for _, v := range []gjson.Result{c.f.messages, c.f.input, c.f.prompt, c.f.contents, c.f.content} {
		gather(v, &size, &last)
	}
	return size, last
}

// openAIUsage appends `"usage":{…}`; with is what a no_usage answer gets.
func (c *call) openAIUsage(b []byte, in, out int64) []byte {
	b = append(b, `"usage":`...)
	if len(c.k.Usage) > 0 {
		return append(b, c.k.Usage...)
	}
	b = append(b, `{"prompt_tokens":`...)
	b = strconv.AppendInt(b, in, 10)
	b = append(b, `,"completion_tokens":`...)
	b = strconv.AppendInt(b, out, 10)
	b = append(b, `,"total_tokens":`...)
	b = strconv.AppendInt(b, in+out, 10)
	return append(b, `,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`...)
}

func (c *call) reason(cut bool, cutWord, toolWord, word string) string {
	switch {
	case c.k.FinishReason != "":
		return c.k.FinishReason
	case c.k.ToolCall:
		return toolWord
	case cut:
		return cutWord
	}
	return word
}

// tool is the name of the first tool that the request offers, in any format.
func (c *call) tool() string {
	for _, path := range []string{"0.function.name", "0.name", "0.functionDeclarations.0.name", "0.function_declarations.0.name"} {
		if v := c.f.tools.Get(path); v.Type == gjson.String {
			return v.Str
		}
	}
	return "fake_tool"
}

const toolArguments = `{"city":"Paris","days":2}`

func (c *call) chat() {
	if !c.need("messages", c.f.messages) {
		return
	}
	size, last := c.promptSize()
	text, cut := c.answer(last)
	in, out := tokens(size), tokens(len(text))*int64(c.f.n)
	finish := c.reason(cut, "length", "tool_calls", "stop")
	id, model := c.id("chatcmpl-fake-"), c.model()
	if c.f.stream {
		c.chatStream(id, model, finish, text, in, out)
		return
	}
	b := make([]byte, 0, len(text)+700)
	b = append(b, `{"id":"`...)
	b = append(b, id...)
	b = append(b, `","object":"chat.completion","created":1700000000,"model":`...)
	b = quote(b, model)
	b = append(b, `,"choices":[`...)
	for i := range c.f.n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"index":`...)
		b = strconv.AppendInt(b, int64(i), 10)
		if c.k.ToolCall {
			b = append(b, `,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_fake_0","type":"function","function":{"name":`...)
			b = quote(b, c.tool())
			b = append(b, `,"arguments":`...)
			b = quote(b, toolArguments)
			b = append(b, `}}],"refusal":null},"logprobs":null,"finish_reason":`...)
		} else {
			b = append(b, `,"message":{"role":"assistant","content":`...)
			b = quote(b, text)
			b = append(b, `,"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":`...)
		}
		b = quote(b, finish)
		b = append(b, '}')
	}
	b = append(b, ']')
	if !c.k.NoUsage {
		b = c.openAIUsage(append(b, ','), in, out)
	}
	b = append(b, `,"service_tier":"default","system_fingerprint":"fp_fake"}`...)
	c.reply("application/json", b)
}

func (c *call) chatStream(id, model, finish, text string, in, out int64) {
	head := append([]byte(`data: {"id":"`), id...)
	head = append(head, `","object":"chat.completion.chunk","created":1700000000,"model":`...)
	head = quote(head, model)
	head = append(head, `,"service_tier":"default","system_fingerprint":"fp_fake","choices":[`...)
	nullUsage := "]}\n\n"
	if c.f.includeUsage && !c.k.NoUsage {
		nullUsage = "],\"usage\":null}\n\n"
	}
	frame := func(b []byte, delta func([]byte) []byte, reason string) []byte {
		b = append(b, head...)
		for i := range c.f.n {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"index":`...)
			b = strconv.AppendInt(b, int64(i), 10)
			b = append(b, `,"delta":{`...)
			b = delta(b)
			b = append(b, `},"logprobs":null,"finish_reason":`...)
			if reason == "" {
				b = append(b, "null}"...)
			} else {
				b = append(quote(b, reason), '}')
			}
		}
		return append(b, nullUsage...)
	}
	pieces := c.pieces(text)
	if c.k.ToolCall {
		pieces = []string{toolArguments[:9], toolArguments[9:]}
	}
	c.play(script{
		contentType: "text/event-stream",
		open: func(b []byte) []byte {
			return frame(b, func(b []byte) []byte {
				if c.k.ToolCall {
					b = append(b, `"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_fake_0","type":"function","function":{"name":`...)
					return append(quote(b, c.tool()), `,"arguments":""}}]`...)
				}
				return append(b, `"role":"assistant","content":"","refusal":null`...)
			}, "")
		},
		delta: func(b []byte, _ int, piece string) []byte {
			return frame(b, func(b []byte) []byte {
				if c.k.ToolCall {
					b = append(b, `"tool_calls":[{"index":0,"function":{"arguments":`...)
					return append(quote(b, piece), `}}]`...)
				}
				return quote(append(b, `"content":`...), piece)
			}, "")
		},
		close: func(b []byte) []byte {
			b = frame(b, func(b []byte) []byte { return b }, finish)
			if c.f.includeUsage && !c.k.NoUsage {
				b = append(b, head...)
				b = append(b, `],`...)
				b = append(c.openAIUsage(b, in, out), "}\n\n"...)
			}
			return c.done(b)
		},
		fail: c.openAIFail,
	}, pieces)
}

func (c *call) done(b []byte) []byte {
	if c.k.NoDone {
		return b
	}
	return append(b, "data: [DONE]\n\n"...)
}

func (c *call) openAIFail(b []byte) []byte {
	b = append(b, "data: "...)
	b = openAIError(b, http.StatusInternalServerError, c.k.ErrorType, "The fake LLM broke off.")
	return append(b, "\n\n"...)
}

func (c *call) completions() {
	if !c.need("prompt", c.f.prompt) {
		return
	}
	size, last := c.promptSize()
	text, cut := c.answer(last)
	in, out := tokens(size), tokens(len(text))*int64(c.f.n)
	finish := c.reason(cut, "length", "stop", "stop")
	id, model := c.id("cmpl-fake-"), c.model()
	frame := func(b []byte, text, reason string) []byte {
		b = append(b, `{"id":"`...)
		b = append(b, id...)
		b = append(b, `","object":"text_completion","created":1700000000,"model":`...)
		b = quote(b, model)
		b = append(b, `,"choices":[`...)
		for i := range c.f.n {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"text":`...)
			b = quote(b, text)
			b = append(b, `,"index":`...)
			b = strconv.AppendInt(b, int64(i), 10)
			b = append(b, `,"logprobs":null,"finish_reason":`...)
			if reason == "" {
				b = append(b, "null}"...)
			} else {
				b = append(quote(b, reason), '}')
			}
		}
		return append(b, ']')
	}
	if !c.f.stream {
		b := frame(nil, text, finish)
		if !c.k.NoUsage {
			b = c.openAIUsage(append(b, ','), in, out)
		}
		c.reply("application/json", append(b, '}'))
		return
	}
	c.play(script{
		contentType: "text/event-stream",
		delta: func(b []byte, _ int, piece string) []byte {
			return append(frame(append(b, "data: "...), piece, ""), "}\n\n"...)
		},
		close: func(b []byte) []byte {
			b = append(frame(append(b, "data: "...), "", finish), "}\n\n"...)
			if c.f.includeUsage && !c.k.NoUsage {
				b = append(b, `data: {"id":"`...)
				b = append(b, id...)
				b = append(b, `","object":"text_completion","created":1700000000,"model":`...)
				b = append(quote(b, model), `,"choices":[],`...)
				b = append(c.openAIUsage(b, in, out), "}\n\n"...)
			}
			return c.done(b)
		},
		fail: c.openAIFail,
	}, c.pieces(text))
}

// texts are the inputs of an embedding: one text, several, or lists of tokens.
func texts(v gjson.Result) []string {
	if !v.IsArray() {
		return []string{v.String()}
	}
	list := v.Array()
	if len(list) > 0 && list[0].Type == gjson.Number {
		return []string{v.Raw}
	}
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = e.String()
		if t := e.Get("text"); t.Exists() {
			out[i] = t.String()
		}
	}
	return out
}

// vector is the embedding of a text: n numbers in -1..1 from FNV-1a.
func vector(text string, n int) []float32 {
	out := make([]float32, n)
	h := fnv.New32a()
	_, _ = h.Write([]byte(text))
	for i := range out {
		_, _ = h.Write([]byte{byte(i), byte(i >> 8)})
		out[i] = float32(int32(h.Sum32()%2001)-1000) / 1000
	}
	return out
}

func appendVector(b []byte, v []float32) []byte {
	b = append(b, '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(x), 'g', -1, 32)
	}
	return append(b, ']')
}

func (c *call) width() int {
	if d := c.f.dimensions; d > 0 && d <= 8192 {
		return int(d)
	}
	return 8
}

func (c *call) embeddings() {
	if !c.need("input", c.f.input) {
		return
	}
	list := texts(c.f.input)
	size := 0
	b := []byte(`{"object":"list","data":[`)
	for i, t := range list {
		size += len(t)
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"object":"embedding","index":`...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, `,"embedding":`...)
		v := vector(t, c.width())
		if c.f.base64 {
			raw := make([]byte, 0, 4*len(v))
			for _, x := range v {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
			}
			b = quote(b, base64.StdEncoding.EncodeToString(raw))
		} else {
			b = appendVector(b, v)
		}
		b = append(b, '}')
	}
	b = append(b, `],"model":`...)
	b = quote(b, c.model())
	c.reply("application/json", append(c.shortUsage(b, tokens(size)), '}'))
}

// shortUsage appends the usage of routes without output.
func (c *call) shortUsage(b []byte, in int64) []byte {
	switch {
	case c.k.NoUsage:
		return b
	case len(c.k.Usage) > 0:
		return append(append(b, `,"usage":`...), c.k.Usage...)
	}
	b = append(b, `,"usage":{"prompt_tokens":`...)
	b = strconv.AppendInt(b, in, 10)
	b = append(b, `,"total_tokens":`...)
	return append(strconv.AppendInt(b, in, 10), '}')
}

func (c *call) moderations() {
	if !c.f.input.Exists() {
		c.fail(http.StatusBadRequest, "Missing required parameter: 'input'.")
		return
	}
	model := c.model()
	if model == "" {
		model = "omni-moderation-latest"
	}
	b := append([]byte(`{"id":"`), c.id("modr-fake-")...)
	b = append(b, `","model":`...)
	b = quote(b, model)
	b = append(b, `,"results":[`...)
	for i, t := range texts(c.f.input) {
		if i > 0 {
			b = append(b, ',')
		}
		flagged := strings.Contains(strings.ToLower(t), "kill")
		score := "0.01"
		if flagged {
			score = "0.99"
		}
		f := strconv.FormatBool(flagged)
		b = append(b, `{"flagged":`+f+`,"categories":{"violence":`+f+`,"hate":false},"category_scores":{"violence":`+score+`,"hate":0.01},"category_applied_input_types":{"violence":["text"],"hate":["text"]}}`...)
	}
	b = append(b, ']')
	if len(c.k.Usage) > 0 && !c.k.NoUsage {
		b = append(append(b, `,"usage":`...), c.k.Usage...)
	}
	c.reply("application/json", append(b, '}'))
}

func (c *call) rerank() {
	if !c.need("documents", c.f.documents) {
		return
	}
	size, _ := c.promptSize()
	type hit struct {
		index int
		text  string
		score float64
	}
	var hits []hit
	query := c.f.prompt.String()
	for i, t := range texts(c.f.documents) {
		size += len(t)
		score := 0.1
		for word := range strings.FieldsSeq(query) {
			if strings.Contains(t, word) {
				score += 0.2
			}
		}
		hits = append(hits, hit{i, t, min(score, 0.99)})
	}
	for i := 1; i < len(hits); i++ { // by score, the order of the request among equals
		for j := i; j > 0 && hits[j].score > hits[j-1].score; j-- {
			hits[j], hits[j-1] = hits[j-1], hits[j]
		}
	}
	if c.f.topN > 0 && c.f.topN < len(hits) {
		hits = hits[:c.f.topN]
	}
	b := quote([]byte(`{"model":`), c.model())
	b = append(b, `,"object":"list"`...)
	b = c.shortUsage(b, tokens(size))
	b = append(b, `,"results":[`...)
	for i, h := range hits {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"index":`...)
		b = strconv.AppendInt(b, int64(h.index), 10)
		if !c.f.documentsOK || c.f.returnDocuments {
			b = quote(append(b, `,"document":{"text":`...), h.text)
			b = append(b, '}')
		}
		b = append(b, `,"relevance_score":`...)
		b = append(strconv.AppendFloat(b, h.score, 'f', 2, 64), '}')
	}
	c.reply("application/json", append(b, "]}"...))
}

func (c *call) modelIDs() []string { return c.s.o.Models }

func (c *call) listModels() {
	ids := c.modelIDs()
	switch {
	case strings.Contains(c.r.URL.Path, "/v1beta"):
		b := []byte(`{"models":[`)
		for i, id := range ids {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendGeminiModel(b, id)
		}
		c.reply("application/json", append(b, "]}"...))
	case c.r.Header.Get("Anthropic-Version") != "":
		b := []byte(`{"data":[`)
		for i, id := range ids {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendClaudeModel(b, id)
		}
		b = append(b, `],"has_more":false,"first_id":`...)
		b = quote(b, first(ids))
		b = append(b, `,"last_id":`...)
		b = quote(b, last(ids))
		c.reply("application/json", append(b, '}'))
	default:
		b := []byte(`{"object":"list","data":[`)
		for i, id := range ids {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendOpenAIModel(b, id)
		}
		c.reply("application/json", append(b, "]}"...))
	}
}

func first(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

func (c *call) oneModel() {
	id := c.pathModel()
	for _, known := range c.modelIDs() {
		if known != id {
			continue
		}
		switch {
		case strings.Contains(c.r.URL.Path, "/v1beta"):
			c.reply("application/json", appendGeminiModel(nil, id))
		case c.r.Header.Get("Anthropic-Version") != "":
			c.reply("application/json", appendClaudeModel(nil, id))
		default:
			c.reply("application/json", appendOpenAIModel(nil, id))
		}
		return
	}
	c.fail(http.StatusNotFound, "The model '"+id+"' does not exist")
}

func appendOpenAIModel(b []byte, id string) []byte {
	b = quote(append(b, `{"id":`...), id)
	return append(b, `,"object":"model","created":1700000000,"owned_by":"fake"}`...)
}

func appendClaudeModel(b []byte, id string) []byte {
	b = quote(append(b, `{"type":"model","id":`...), id)
	b = quote(append(b, `,"display_name":`...), id)
	return append(b, `,"created_at":"2023-11-14T22:13:20Z"}`...)
}

func appendGeminiModel(b []byte, id string) []byte {
	b = quote(append(b, `{"name":`...), "models/"+id)
	b = quote(append(b, `,"displayName":`...), id)
	return append(b, `,"inputTokenLimit":1048576,"outputTokenLimit":8192,"supportedGenerationMethods":["generateContent","countTokens","embedContent"]}`...)
}

func last(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[len(ids)-1]
}
