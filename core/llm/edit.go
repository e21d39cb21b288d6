package llm

// Model puts upstream's name of the model into the body. A body without a model
// (some operations have a default) gets one.
func (s *Splices) Model(r *Request, f Field, e Edits) {
	if e.Model == "" || e.Model == r.Model {
		return
	}
	d := &r.Document
	if v := d.Value(f); v.Kind != Absent {
		s.Replace(v, Quote(e.Model))
	} else {
		s.First(d, d.root(), "model", Quote(e.Model))
	}
}

// start is where the root value begins.
func (d *Document) start() int {
	sc := scanner{b: d.body}
	return sc.space(0)
}

// Prefix puts text and a line feed before the text of a string value.
func (s *Splices) Prefix(v Value, text string) {
	q := Quote(text)
	s.Insert(v.Start+1, q[1:len(q)-1]+`\n`)
}

// Finish applies the channel's param_override to a body that has all other edits.
func (e Edits) Finish(r *Request, body []byte) ([]byte, error) {
	if e.Params == nil {
		return body, nil
	}
	sent := e.Model
	if sent == "" {
		sent = r.Model
	}
	return e.Params.Apply(body, ParamContext{OriginalModel: r.Model, UpstreamModel: sent})
}

// Reparsed makes the view of an edited body out of its own parse: what the
// client named and asked for itself stays.
func (r *Request) Reparsed(edited *Request) *Request {
	edited.Model, edited.WantUsage = r.Model, r.WantUsage
	return edited
}
