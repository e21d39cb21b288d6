// Package core holds the nouns of the gateway and the contracts between its
// rooms: channels, tokens, users, groups, options, prices, the immutable
// snapshot, the ledger, the logs, and the errors that a client sees.
//
// It knows the standard library and core/llm only. It must not know how
// anything is stored, sent or shown: no SQL, no HTTP handlers, no Redis.
package core
