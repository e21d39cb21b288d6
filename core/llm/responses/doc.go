// Package responses is the wire format of the OpenAI Responses API.
//
// It reads requests, edits them in place and taps answers. It must not know
// vendors, channels or prices.
package responses
