package llm

// Form is the index of a multipart/form-data body: where the fields stand that
// a codec reads or edits.
type Form struct{}
