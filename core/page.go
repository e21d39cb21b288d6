package core

// Page is a window of a list. Total is the number of rows that match; it is -1
// where counting would read a whole log table.
type Page[T any] struct {
	Items []T
	Total int64
}

// PageQuery is offset and limit of a window.
type PageQuery struct {
	Offset, Limit int
}
