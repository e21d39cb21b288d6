// Package gemini is the wire format of the Gemini API: generateContent with and
// without stream, embeddings and token counts. The model stands in the path.
//
// Google reads JSON as protobuf does, so each key has two spellings
// (maxOutputTokens, max_output_tokens); both are watched as one.
//
// It reads requests, edits them in place and taps answers. It must not know
// vendors, channels or prices.
package gemini
