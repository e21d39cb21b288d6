package llm

import (
	"bytes"
	"strings"

	"github.com/tidwall/gjson"
)

// errorShape is one vendor's way to write an error body; the paths are gjson's.
type errorShape struct{ message, typ, code string }

// errorShapes are tried in order; the first whose message is a text wins.
func errorShapes() []errorShape {
	return []errorShape{
		{"error.message", "error.type", "error.code"},                            // OpenAI, Claude and most others
		{"error.metadata.raw", "error.type", "error.code"},                       // OpenRouter without a message
		{"error.msg", "error.type", "error.code"},                                //
		{"errors.0.message", "errors.0.type", "errors.0.code"},                   // Cloudflare
		{"errors.message", "errors.type", "errors.code"},                         // ModelScope
		{"Response.Error.Message", "", "Response.Error.Code"},                    // Tencent
		{"base_resp.status_msg", "", "base_resp.status_code"},                    // MiniMax
		{"header.message", "", "header.code"},                                    // iFlytek
		{"error_msg", "", "error_code"},                                          // Baidu
		{"error", "type", "code"},                                                // a text: Ollama, xAI (with code)
		{"message", "type", "code"},                                              // Ali, Cohere, Mistral
		{"detail.0.msg", "detail.0.type", ""},                                    // FastAPI's validation
		{"detail.message", "detail.type", "detail.code"},                         //
		{"detail", "type", "code"},                                               // FastAPI, Jina
		{"msg", "type", "code"},                                                  //
		{"error_description", "error", ""},                                       // OAuth
		{"errorMessage", "errorType", "errorCode"},                               //
		{"Message", "__type", "Code"},                                            // AWS
		{"response.error.message", "response.error.type", "response.error.code"}, // Responses, an event
	}
}

// ParseErrorBody reads type, code and message of an error body in the shapes of
// all vendors known. ok is false when it holds no message.
func ParseErrorBody(body []byte) (typ, code, message string, ok bool) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '{' && body[0] != '[' || !gjson.ValidBytes(body) {
		return "", "", "", false
	}
	root := gjson.ParseBytes(body)
	if root.IsArray() { // Gemini's stream without alt=sse
		root = root.Get("0")
	}
	for _, s := range errorShapes() {
		m := root.Get(s.message)
		if m.Type != gjson.String || strings.TrimSpace(m.Str) == "" {
			continue
		}
		if s.typ != "" {
			typ = plain(root.Get(s.typ))
		}
		if s.code != "" {
			code = plain(root.Get(s.code))
		}
		if status := root.Get("error.status"); typ == "" && status.Type == gjson.String {
			typ = status.Str // Gemini
		}
		return typ, code, m.Str, true
	}
	return "", "", "", false
}

// plain is a scalar as text.
func plain(r gjson.Result) string {
	if r.Type == gjson.String || r.Type == gjson.Number {
		return r.String()
	}
	return ""
}

// WithRequestID adds the id to a message, as New API does, unless one is there.
func WithRequestID(message, id string) string {
	if id == "" || strings.Contains(message, "(request id: ") {
		return message
	}
	return message + " (request id: " + id + ")"
}

// OpenAIError is the error body of OpenAI's formats.
func OpenAIError(e Error) []byte {
	b := append(make([]byte, 0, 256), `{"error":{"message":`...)
	b = AppendQuoted(b, WithRequestID(e.Text(), e.RequestID))
	b = append(b, `,"type":`...)
	b = AppendQuoted(b, e.Type)
	b = append(b, `,"param":`...)
	b = appendParam(b, e.Param)
	b = append(b, `,"code":`...)
	b = AppendQuoted(b, e.Code)
	return append(b, "}}"...)
}

func appendParam(b []byte, param string) []byte {
	if param == "" {
		return append(b, "null"...)
	}
	return AppendQuoted(b, param)
}

// Text is the message, or the status' name where there is none.
func (e Error) Text() string {
	if e.Message != "" {
		return e.Message
	}
	return StatusText(e.Status)
}
