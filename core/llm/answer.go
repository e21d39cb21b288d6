package llm

import "strings"

// maxUsage bounds the usage object that a tap keeps; a larger one is no usage.
const maxUsage = 16 << 10

// Answer is what the taps of all formats have in common: the index of the
// event under way, the output counted by length, and the last usage object.
type Answer struct {
	Doc      Document
	Output   Tally
	Finished bool // the format's own end was seen

	usage []byte // the last usage object, parsed when asked for
}

// Read indexes one event or body. It is false for what is no JSON.
func (a *Answer) Read(s *Schema, data []byte) bool {
	if a.Doc.Scan(s, data) != nil {
		return false
	}
	a.Output.ASCII += a.Doc.Tally.ASCII
	a.Output.Wide += a.Doc.Tally.Wide
	return true
}

// Ends is how many elements of a list have a text under key: the choices of an
// event that ended with it.
func (d *Document) Ends(list Value, key string) (n int64) {
	_ = d.Each(list, func(v Value) error { // f never fails
		return d.Members(v, func(k string, _ int, v Value) error {
			if k == key && v.Kind == String {
				n++
			}
			return nil
		})
	})
	return n
}

// Keep keeps a usage object for the end.
func (a *Answer) Keep(v Value) {
	if v.Kind == Object && v.End-v.Start <= maxUsage && !a.Doc.Empty(v) {
		a.usage = append(a.usage[:0], a.Doc.Raw(v)...)
	}
}

// Kept is the last usage object, nil without one.
func (a *Answer) Kept() []byte { return a.usage }

// EstimateOf is the request's estimated input and the output that was counted.
func (a *Answer) EstimateOf(r *Request) Usage {
	return Usage{Input: r.Input, Output: a.Output.Tokens()}
}

// IsJSON reports whether a content type is JSON.
func IsJSON(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	return t == "application/json" || strings.HasSuffix(t, "+json")
}

// IsEventStream reports whether a content type is server-sent events.
func IsEventStream(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(t), "text/event-stream")
}

// IsText reports whether a content type is readable text, as opposed to sound or pictures.
func IsText(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	return t == "" || strings.HasPrefix(t, "text/") || IsJSON(contentType)
}
