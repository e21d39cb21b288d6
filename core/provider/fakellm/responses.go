package fakellm

import "strconv"

func (c *call) responses() {
	if !c.need("input", c.f.input) {
		return
	}
	size, said := c.promptSize()
	text, cut := c.answer(said)
	in, out := tokens(size), tokens(len(text))
	id := c.id("resp_fake_")
	if !c.f.stream {
		c.reply("application/json", c.response(nil, id, text, cut, true, in, out))
		return
	}
	c.responsesStream(id, text, cut, in, out)
}

// response appends a response object, whole or as it is at the beginning.
func (c *call) response(b []byte, id, text string, cut, whole bool, in, out int64) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, id...)
	status, details := "in_progress", "null"
	if whole {
		status = "completed"
		if cut && c.k.FinishReason == "" {
			status, details = "incomplete", `{"reason":"max_output_tokens"}`
		}
	}
	b = append(b, `","object":"response","created_at":1700000000,"status":"`+status+`","background":false,"error":null,"incomplete_details":`+details+`,"instructions":null,"max_output_tokens":null,"model":`...)
	b = quote(b, c.model())
	b = append(b, `,"output":[`...)
	if whole {
		b = c.item(b, text, "completed", true)
	}
	b = append(b, `],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":true,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":`...)
	switch {
	case !whole || c.k.NoUsage:
		b = append(b, "null"...)
	case len(c.k.Usage) > 0:
		b = append(b, c.k.Usage...)
	default:
		b = strconv.AppendInt(append(b, `{"input_tokens":`...), in, 10)
		b = strconv.AppendInt(append(b, `,"input_tokens_details":{"cached_tokens":0},"output_tokens":`...), out, 10)
		b = strconv.AppendInt(append(b, `,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":`...), in+out, 10)
		b = append(b, '}')
	}
	return append(b, `,"user":null,"metadata":{}}`...)
}

func (c *call) item(b []byte, text, status string, full bool) []byte {
	if c.k.ToolCall {
		b = append(b, `{"id":"fc_fake_0","type":"function_call","status":"`+status+`","call_id":"call_fake_0","name":`...)
		b = quote(b, c.tool())
		args := ""
		if full {
			args = toolArguments
		}
		return append(quote(append(b, `,"arguments":`...), args), '}')
	}
	b = append(b, `{"id":"msg_fake_0","type":"message","status":"`+status+`","role":"assistant","content":[`...)
	if full {
		b = part(b, text)
	}
	return append(b, `]}`...)
}

func part(b []byte, text string) []byte {
	b = quote(append(b, `{"type":"output_text","annotations":[],"logprobs":[],"text":`...), text)
	return append(b, '}')
}

func (c *call) responsesStream(id, text string, cut bool, in, out int64) {
	seq := 0
	event := func(b []byte, name, rest string) []byte {
		b = append(b, "event: "+name+"\ndata: {\"type\":\""+name+"\",\"sequence_number\":"...)
		b = strconv.AppendInt(b, int64(seq), 10)
		seq++
		return append(b, rest...)
	}
	const place = `,"item_id":"msg_fake_0","output_index":0,"content_index":0`
	const end = "}\n\n"
	pieces := c.pieces(text)
	if c.k.ToolCall {
		pieces = []string{toolArguments[:9], toolArguments[9:]}
	}
	c.play(script{
		contentType: "text/event-stream; charset=utf-8",
		open: func(b []byte) []byte {
			for _, name := range []string{"response.created", "response.in_progress"} {
				b = event(b, name, `,"response":`)
				b = append(c.response(b, id, "", false, false, 0, 0), end...)
			}
			b = event(b, "response.output_item.added", `,"output_index":0,"item":`)
			b = append(c.item(b, "", "in_progress", false), end...)
			if c.k.ToolCall {
				return b
			}
			b = event(b, "response.content_part.added", place+`,"part":`)
			return append(part(b, ""), end...)
		},
		delta: func(b []byte, _ int, piece string) []byte {
			if c.k.ToolCall {
				b = event(b, "response.function_call_arguments.delta", `,"item_id":"fc_fake_0","output_index":0,"delta":`)
			} else {
				b = event(b, "response.output_text.delta", place+`,"logprobs":[],"delta":`)
			}
			return append(quote(b, piece), end...)
		},
		close: func(b []byte) []byte {
			if c.k.ToolCall {
				b = event(b, "response.function_call_arguments.done", `,"item_id":"fc_fake_0","output_index":0,"arguments":`)
				b = append(quote(b, toolArguments), end...)
			} else {
				b = event(b, "response.output_text.done", place+`,"logprobs":[],"text":`)
				b = append(quote(b, text), end...)
				b = event(b, "response.content_part.done", place+`,"part":`)
				b = append(part(b, text), end...)
			}
			b = event(b, "response.output_item.done", `,"output_index":0,"item":`)
			b = append(c.item(b, text, "completed", true), end...)
			name := "response.completed"
			if cut && c.k.FinishReason == "" {
				name = "response.incomplete"
			}
			b = event(b, name, `,"response":`)
			return append(c.response(b, id, text, cut, true, in, out), end...)
		},
		fail: func(b []byte) []byte {
			code := c.k.ErrorType
			if code == "" {
				code = "server_error"
			}
			b = event(b, "error", `,"code":`)
			return append(quote(b, code), `,"message":"The fake LLM broke off.","param":null`+end...)
		},
	}, pieces)
}
