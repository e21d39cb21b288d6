package llm

// Document is the index of a JSON body: where the keys stand that a codec
// reads or edits.
type Document struct{}
