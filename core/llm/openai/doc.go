// Package openai is the wire format of the OpenAI API but for Responses: chat
// and legacy completions, embeddings, moderations, rerank (Jina's and Cohere's
// shape, which vendors serve beside OpenAI's), images and audio.
//
// It reads requests, edits them in place and taps answers. It must not know
// vendors, channels or prices.
package openai
