package fakellm

import (
	"net/http"
	"strconv"

	"github.com/tidwall/gjson"
)

func geminiError(b []byte, status int, typ, message string) []byte {
	if typ == "" {
		switch status {
		case http.StatusBadRequest:
			typ = "INVALID_ARGUMENT"
		case http.StatusUnauthorized:
			typ = "UNAUTHENTICATED"
		case http.StatusForbidden:
			typ = "PERMISSION_DENIED"
		case http.StatusNotFound:
			typ = "NOT_FOUND"
		case http.StatusTooManyRequests:
			typ = "RESOURCE_EXHAUSTED"
		case http.StatusServiceUnavailable:
			typ = "UNAVAILABLE"
		case http.StatusGatewayTimeout:
			typ = "DEADLINE_EXCEEDED"
		default:
			typ = "INTERNAL"
		}
	}
	b = append(b, `{"error":{"code":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = quote(append(b, `,"message":`...), message)
	b = quote(append(b, `,"status":`...), typ)
	return append(b, `}}`...)
}

// geminiPrompt checks contents and measures the prompt.
func (c *call) geminiPrompt() (in int64, said string, ok bool) {
	c.f.model = c.pathModel()
	if !c.f.contents.Exists() {
		c.fail(http.StatusBadRequest, "* GenerateContentRequest.contents: contents is not specified")
		return 0, "", false
	}
	size, said := c.promptSize()
	return tokens(size), said, true
}

func (c *call) candidates(b []byte, text string, args bool, finish string, in, out int64) []byte {
	b = append(b, `{"candidates":[`...)
	for i := range c.f.n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"content":{"parts":[`...)
		switch {
		case args:
			b = quote(append(b, `{"functionCall":{"name":`...), c.tool())
			b = append(b, `,"args":`+toolArguments+`}}`...)
		default:
			b = quote(append(b, `{"text":`...), text)
			b = append(b, '}')
		}
		b = append(b, `],"role":"model"}`...)
		if finish != "" {
			b = quote(append(b, `,"finishReason":`...), finish)
		}
		b = strconv.AppendInt(append(b, `,"index":`...), int64(i), 10)
		b = append(b, '}')
	}
	b = append(b, ']')
	switch {
	case c.k.NoUsage:
	case len(c.k.Usage) > 0:
		b = append(append(b, `,"usageMetadata":`...), c.k.Usage...)
	default:
		b = strconv.AppendInt(append(b, `,"usageMetadata":{"promptTokenCount":`...), in, 10)
		if out > 0 {
			b = strconv.AppendInt(append(b, `,"candidatesTokenCount":`...), out, 10)
		}
		b = strconv.AppendInt(append(b, `,"totalTokenCount":`...), in+out, 10)
		b = strconv.AppendInt(append(b, `,"promptTokensDetails":[{"modality":"TEXT","tokenCount":`...), in, 10)
		b = append(b, `}]}`...)
	}
	b = quote(append(b, `,"modelVersion":`...), c.model())
	b = quote(append(b, `,"responseId":`...), c.id("fake-"))
	return append(b, '}')
}

func (c *call) generate() {
	in, said, ok := c.geminiPrompt()
	if !ok {
		return
	}
	text, cut := c.answer(said)
	finish := c.reason(cut, "MAX_TOKENS", "STOP", "STOP")
	c.reply("application/json; charset=UTF-8", c.candidates(nil, text, c.k.ToolCall, finish, in, tokens(len(text))*int64(c.f.n)))
}

func (c *call) streamGenerate() {
	in, said, ok := c.geminiPrompt()
	if !ok {
		return
	}
	text, cut := c.answer(said)
	finish := c.reason(cut, "MAX_TOKENS", "STOP", "STOP")
	pieces := c.pieces(text)
	if c.k.ToolCall {
		pieces = []string{""}
	}
	out := tokens(len(text)) * int64(c.f.n)
	sofar := 0
	element := func(b []byte, i int, piece string) []byte {
		sofar += len(piece)
		n, word := tokens(sofar)*int64(c.f.n), ""
		if i == len(pieces)-1 && !c.k.Endless {
			n, word = out, finish
		}
		return c.candidates(b, piece, c.k.ToolCall, word, in, n)
	}
	if c.r.URL.Query().Get("alt") == "sse" {
		c.play(script{
			contentType: "text/event-stream",
			delta: func(b []byte, i int, piece string) []byte {
				return append(element(append(b, "data: "...), i, piece), "\r\n\r\n"...)
			},
			close: func(b []byte) []byte { return b },
			fail: func(b []byte) []byte {
				b = append(b, "data: "...)
				return append(geminiError(b, http.StatusInternalServerError, c.k.ErrorType, "The fake LLM broke off."), "\r\n\r\n"...)
			},
		}, pieces)
		return
	}
	elements := 0
	comma := func(b []byte) []byte {
		elements++
		if elements > 1 {
			return append(b, ",\r\n"...)
		}
		return b
	}
	c.k.Comments = false
	c.play(script{
		contentType: "application/json; charset=UTF-8",
		open:        func(b []byte) []byte { return append(b, '[') },
		delta: func(b []byte, i int, piece string) []byte {
			return append(element(comma(b), i, piece), '\n')
		},
		close: func(b []byte) []byte { return append(b, "]\n"...) },
		fail: func(b []byte) []byte {
			b = geminiError(comma(b), http.StatusInternalServerError, c.k.ErrorType, "The fake LLM broke off.")
			return append(b, "\n]\n"...)
		},
	}, pieces)
}

func geminiText(v gjson.Result) string {
	var size int
	var said string
	gather(v, &size, &said)
	return said
}

func (c *call) embedContent() {
	c.f.model = c.pathModel()
	if !c.f.content.Exists() {
		c.fail(http.StatusBadRequest, "* EmbedContentRequest.content: content is not specified")
		return
	}
	b := append([]byte(`{"embedding":{"values":`), appendVector(nil, vector(geminiText(c.f.content), c.width()))...)
	b = append(b, '}')
	if len(c.k.Usage) > 0 && !c.k.NoUsage {
		b = append(append(b, `,"usageMetadata":`...), c.k.Usage...)
	}
	c.reply("application/json; charset=UTF-8", append(b, '}'))
}

func (c *call) batchEmbed() {
	c.f.model = c.pathModel()
	if !c.f.requests.IsArray() {
		c.fail(http.StatusBadRequest, "* BatchEmbedContentsRequest.requests: requests is not specified")
		return
	}
	b := []byte(`{"embeddings":[`)
	n := 0
	c.f.requests.ForEach(func(_, v gjson.Result) bool {
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = appendVector(append(b, `{"values":`...), vector(geminiText(v.Get("content")), c.width()))
		b = append(b, '}')
		return true
	})
	b = append(b, ']')
	if len(c.k.Usage) > 0 && !c.k.NoUsage {
		b = append(append(b, `,"usageMetadata":`...), c.k.Usage...)
	}
	c.reply("application/json; charset=UTF-8", append(b, '}'))
}

func (c *call) geminiCount() {
	c.f.model = c.pathModel()
	if g := gjson.Get(c.body, "generateContentRequest"); g.Exists() {
		g.ForEach(func(key, v gjson.Result) bool { c.f.set(key.Str, v); return true })
	}
	size, _ := c.promptSize()
	b := strconv.AppendInt([]byte(`{"totalTokens":`), tokens(size), 10)
	c.reply("application/json; charset=UTF-8", append(b, '}'))
}
