package llm

// Format is a wire format.
type Format string

// The wire formats.
const (
	OpenAI    Format = "openai"    // chat completions and the other /v1 routes of the OpenAI API
	Responses Format = "responses" // the OpenAI Responses API
	Claude    Format = "claude"    // the Anthropic Messages API
	Gemini    Format = "gemini"    // the Gemini generateContent API
)

// Operation is what a client asks for: one relay route of one format.
type Operation string

// The operations.
const (
	OpChat             Operation = "chat"                  // POST /v1/chat/completions
	OpCompletions      Operation = "completions"           // POST /v1/completions
	OpEmbeddings       Operation = "embeddings"            // POST /v1/embeddings
	OpModerations      Operation = "moderations"           // POST /v1/moderations
	OpRerank           Operation = "rerank"                // POST /v1/rerank
	OpImageGenerations Operation = "images.generations"    // POST /v1/images/generations
	OpImageEdits       Operation = "images.edits"          // POST /v1/images/edits, multipart
	OpTranscriptions   Operation = "audio.transcriptions"  // POST /v1/audio/transcriptions, multipart
	OpTranslations     Operation = "audio.translations"    // POST /v1/audio/translations, multipart
	OpSpeech           Operation = "audio.speech"          // POST /v1/audio/speech, binary answer
	OpResponses        Operation = "responses"             // POST /v1/responses
	OpMessages         Operation = "messages"              // POST /v1/messages
	OpMessagesCount    Operation = "messages.count_tokens" // POST /v1/messages/count_tokens
	OpGenerate         Operation = "generateContent"       // POST /v1beta/models/{model}:generateContent
	OpStreamGenerate   Operation = "streamGenerateContent" // POST /v1beta/models/{model}:streamGenerateContent
	OpEmbedContent     Operation = "embedContent"          // POST /v1beta/models/{model}:embedContent
	OpBatchEmbed       Operation = "batchEmbedContents"    // POST /v1beta/models/{model}:batchEmbedContents
	OpGeminiCount      Operation = "countTokens"           // POST /v1beta/models/{model}:countTokens
)

// Format is the wire format that an operation belongs to.
func (op Operation) Format() Format {
	switch op {
	case OpResponses:
		return Responses
	case OpMessages, OpMessagesCount:
		return Claude
	case OpGenerate, OpStreamGenerate, OpEmbedContent, OpBatchEmbed, OpGeminiCount:
		return Gemini
	}
	return OpenAI
}

// ModelInPath reports whether the model stands in the URL and not in the body.
func (op Operation) ModelInPath() bool { return op.Format() == Gemini }

// Free reports whether vendors do not charge for the operation.
func (op Operation) Free() bool { return op == OpMessagesCount || op == OpGeminiCount }
