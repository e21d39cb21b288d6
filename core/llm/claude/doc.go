// Package claude is the wire format of the Anthropic Messages API.
//
// It reads requests, edits them in place and taps answers. It must not know
// vendors, channels or prices.
package claude
