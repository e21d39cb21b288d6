package openai

import "github.com/sluice-gateway/sluice/core/llm"

// Codec is the OpenAI format.
type Codec struct{}

var _ llm.Codec = Codec{}

// New makes the codec.
func New() Codec { return Codec{} }

// Format implements llm.Codec.
func (Codec) Format() llm.Format { return llm.OpenAI }

// Framing implements llm.Codec.
func (Codec) Framing(_ llm.Operation, contentType string) llm.Framing {
	if llm.IsEventStream(contentType) {
		return llm.FrameSSE
	}
	return llm.FrameNone
}

// ForwardHeaders implements llm.Codec. OpenAI-Organization and -Project choose
// who pays and belong to the channel.
func (Codec) ForwardHeaders() []string { return []string{"Openai-Beta"} }

// ParseError implements llm.Codec.
func (Codec) ParseError(body []byte) (typ, code, message string, ok bool) {
	return llm.ParseErrorBody(body)
}

// EncodeError implements llm.Codec.
func (Codec) EncodeError(e llm.Error) []byte { return llm.OpenAIError(e) }

// EncodeStreamError implements llm.Codec.
func (Codec) EncodeStreamError(_ llm.Operation, e llm.Error) []byte {
	return append(append([]byte("data: "), llm.OpenAIError(e)...), "\n\n"...)
}
