// Package app is the only one that knows all rooms: it builds them in order,
// plugs them together, runs them, and stops them in the opposite order. It holds
// no rules of its own.
package app
