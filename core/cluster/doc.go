// Package cluster keeps a node's memory in step with the database: the revision
// that was applied, the immutable snapshot behind an atomic pointer, and the
// bounded cache of credentials. The database is the truth; a trigger of any kind
// only leads to a look at it, and a failed look never empties anything.
//
// It must not know HTTP, prices or what a request is.
package cluster
