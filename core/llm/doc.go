// Package llm holds what the wire formats have in common: their names, the
// operations that a client can ask for, the usage that a vendor reports, the
// one-pass JSON scanner and its edits, SSE framing, and the Codec contract. Each
// format lives in a package of its own below this one.
//
// It knows the standard library, gjson and sjson. It must not know channels,
// users, prices or HTTP servers.
package llm
