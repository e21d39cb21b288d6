package store

import "github.com/sluice-gateway/sluice/core"

// FetchResult is one consistent read of the replicated state. FetchAll(ctx)
// (FetchResult, error) fills everything but Changes; FetchSince(ctx, rev)
// (FetchResult, error) fills Changes and, in Rows, only the touched rows: a
// changed entity that is absent from Rows and Bad was deleted. The maps of Rows are
// never nil.
type FetchResult struct {
	Epoch   string
	Rev     core.Revision
	Changes []core.Change
	Rows    core.Rows
	Bad     []BadRow // rows that could not be read: the caller keeps their last good state
}

// BadRow is a row that cannot be used: a key that does not open, a text that
// does not parse. It never fails the whole read.
type BadRow struct {
	Kind core.Kind
	ID   string
	Err  error
}
