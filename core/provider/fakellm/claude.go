package fakellm

import (
	"net/http"
	"strconv"

	"github.com/tidwall/gjson"
)

func claudeError(b []byte, status int, typ, message string) []byte {
	if typ == "" {
		switch {
		case status == http.StatusUnauthorized:
			typ = "authentication_error"
		case status == http.StatusForbidden:
			typ = "permission_error"
		case status == http.StatusNotFound:
			typ = "not_found_error"
		case status == http.StatusRequestEntityTooLarge:
			typ = "request_too_large"
		case status == http.StatusTooManyRequests:
			typ = "rate_limit_error"
		case status == 529 || status == http.StatusServiceUnavailable:
			typ = "overloaded_error"
		case status >= 500:
			typ = "api_error"
		default:
			typ = "invalid_request_error"
		}
	}
	b = append(b, `{"type":"error","error":{"type":`...)
	b = quote(b, typ)
	b = append(b, `,"message":`...)
	return append(quote(b, message), `},"request_id":"req_fake"}`...)
}

// claudeUsage appends a usage object; out < 0 leaves the output as the vendor's
// message_start has it: 1.
func (c *call) claudeUsage(b []byte, in, out int64, start bool) []byte {
	if len(c.k.Usage) > 0 {
		if !start {
			return append(b, c.k.Usage...)
		}
		b = append(b, '{')
		gjson.ParseBytes(c.k.Usage).ForEach(func(key, v gjson.Result) bool {
			if key.Str == "output_tokens" {
				return true
			}
			b = append(b, key.Raw...)
			b = append(append(append(b, ':'), v.Raw...), ',')
			return true
		})
		return append(b, `"output_tokens":1}`...)
	}
	b = append(b, `{"input_tokens":`...)
	b = strconv.AppendInt(b, in, 10)
	b = append(b, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":`...)
	b = strconv.AppendInt(b, out, 10)
	return append(b, `,"service_tier":"standard"}`...)
}

func (c *call) messages() {
	if !c.need("messages", c.f.messages) {
		return
	}
	if c.f.limit <= 0 {
		c.fail(http.StatusBadRequest, "max_tokens: Field required")
		return
	}
	size, said := c.promptSize()
	text, cut := c.answer(said)
	in, out := tokens(size), tokens(len(text))
	stop := c.reason(cut, "max_tokens", "tool_use", "end_turn")
	id := c.id("msg_fake_")
	if c.f.stream {
		c.messagesStream(id, stop, text, in, out)
		return
	}
	b := append([]byte(`{"id":"`), id...)
	b = append(b, `","type":"message","role":"assistant","model":`...)
	b = quote(b, c.model())
	b = append(b, `,"content":[`...)
	if c.k.ToolCall {
		b = quote(append(b, `{"type":"tool_use","id":"toolu_fake_0","name":`...), c.tool())
		b = append(b, `,"input":`+toolArguments+`}`...)
	} else {
		b = quote(append(b, `{"type":"text","text":`...), text)
		b = append(b, '}')
	}
	b = append(b, `],"stop_reason":`...)
	b = quote(b, stop)
	b = append(b, `,"stop_sequence":null`...)
	if !c.k.NoUsage {
		b = c.claudeUsage(append(b, `,"usage":`...), in, out, false)
	}
	c.reply("application/json", append(b, '}'))
}

func (c *call) messagesStream(id, stop, text string, in, out int64) {
	pieces := c.pieces(text)
	if c.k.ToolCall {
		pieces = []string{toolArguments[:9], toolArguments[9:]}
	}
	c.play(script{
		contentType: "text/event-stream; charset=utf-8",
		open: func(b []byte) []byte {
			b = append(b, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\""...)
			b = append(b, id...)
			b = append(b, `","type":"message","role":"assistant","model":`...)
			b = quote(b, c.model())
			b = append(b, `,"content":[],"stop_reason":null,"stop_sequence":null`...)
			if !c.k.NoUsage {
				b = c.claudeUsage(append(b, `,"usage":`...), in, 1, true)
			}
			b = append(b, "}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":"...)
			if c.k.ToolCall {
				b = quote(append(b, `{"type":"tool_use","id":"toolu_fake_0","name":`...), c.tool())
				b = append(b, `,"input":{}}`...)
			} else {
				b = append(b, `{"type":"text","text":""}`...)
			}
			return append(b, "}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n"...)
		},
		delta: func(b []byte, _ int, piece string) []byte {
			b = append(b, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":"...)
			if c.k.ToolCall {
				b = append(b, `{"type":"input_json_delta","partial_json":`...)
			} else {
				b = append(b, `{"type":"text_delta","text":`...)
			}
			return append(quote(b, piece), "}}\n\n"...)
		},
		close: func(b []byte) []byte {
			b = append(b, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"...)
			b = append(quote(b, stop), `,"stop_sequence":null}`...)
			if !c.k.NoUsage {
				b = c.claudeUsage(append(b, `,"usage":`...), in, out, false)
			}
			return append(b, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"...)
		},
		fail: func(b []byte) []byte {
			b = append(b, "event: error\ndata: "...)
			return append(claudeError(b, 529, c.k.ErrorType, "The fake LLM broke off."), "\n\n"...)
		},
	}, pieces)
}

func (c *call) messagesCount() {
	if !c.need("messages", c.f.messages) {
		return
	}
	size, _ := c.promptSize()
	b := []byte(`{"input_tokens":`)
	c.reply("application/json", append(strconv.AppendInt(b, tokens(size), 10), '}'))
}
