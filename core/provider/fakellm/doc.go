// Package fakellm is an upstream for demonstrations, tests and benchmarks: an
// http.Handler that speaks the OpenAI, Responses, Claude and Gemini formats and
// answers the same request with the same bytes. It knows nothing of the gateway
// before it.
//
// # Paths
//
// A path is taken by its end, whatever stands before: …/chat/completions,
// …/completions, …/embeddings, …/moderations, …/rerank, …/images/generations,
// …/images/edits, …/audio/{transcriptions,translations,speech}, …/responses,
// …/messages, …/messages/count_tokens, …/models/{model}:{generateContent,
// streamGenerateContent,embedContent,batchEmbedContents,countTokens}, and GET
// …/models, …/models/{model} (Claude's shape with an anthropic-version header,
// Gemini's below /v1beta, OpenAI's otherwise).
//
// # Content and usage
//
// A chat answers "Hello from the fake LLM. You said: " and the last user text,
// of which at most 200 bytes. Text counts one token for each four bytes begun, at
// least one. The prompt is all texts of the request: system, messages and their
// text parts, input, prompt, contents. The output bound of the request (max_tokens
// and its like) is kept: the text is cut there and the reason says so. Embeddings
// are FNV-1a hashes of the texts, eight numbers or as many as dimensions says.
//
// # Knobs
//
// A JSON object named "fake" in the request body (a form field named fake in
// multipart bodies), the header X-Fake with such an object (a channel's
// header_override can send it), and Options.Fake are laid over one another; the
// header wins over the body, the body over the options. An unknown knob is
// answered with 400. They are the fields of Knobs.
package fakellm
