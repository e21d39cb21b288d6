// Package inmem holds what is shared between nodes elsewhere, in the memory of
// one process: counters for rate limits. It serves a single node, tests, and a
// node whose shared counters are away. It must not know HTTP or configuration.
package inmem
