// Package relay owns one exchange: from a client's request to the last byte of
// its answer. It authenticates the key, reads the body within bounds, picks a
// channel, reserves, sends, retries, streams, settles exactly once, and tells the
// client of every failure in the client's own format.
//
// It knows snapshots, the ledger's contract, codecs and the provider catalogue.
// It must not know how tokens are stored, how prices become quota, or how routes
// are registered.
package relay
