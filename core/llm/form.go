package llm

import (
	"bytes"
	"fmt"
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of a form. OpenAI takes 16 images; a part's header has a name, a
// file name and a type.
const (
	maxParts      = 256
	maxPartHeader = 8 << 10
	maxFormText   = 1 << 20 // of one field that is read
)

// Form is the index of a multipart/form-data body: where the fields stand that
// a codec reads or edits. It takes the strict form that clients send (CRLF, no
// preamble); a body that parsers might read in two ways is refused.
type Form struct {
	body     []byte
	boundary string
	parts    []Part
}

// Part is one field of a form.
type Part struct {
	Name  string
	File  bool // it has a file name
	Plain bool // its bytes are its value: no transfer encoding
	Start int  // of the value
	End   int
}

// ParseForm indexes a form. watched are the fields that will be read: none of
// them may come twice or in another letter case.
func ParseForm(contentType string, body []byte, watched ...string) (*Form, error) {
	t, params, err := mime.ParseMediaType(contentType)
	if err != nil || t != "multipart/form-data" {
		return nil, &BadRequest{Message: "the body must be multipart/form-data"}
	}
	boundary := params["boundary"]
	if boundary == "" || len(boundary) > 70 {
		return nil, &BadRequest{Message: "the Content-Type must name a boundary of 1 to 70 characters"}
	}
	f := &Form{body: body, boundary: boundary}
	if err := f.scan(); err != nil {
		return nil, err
	}
	return f, f.checkNames(watched)
}

func badForm(format string, args ...any) error {
	return &BadRequest{Message: "invalid multipart body: " + fmt.Sprintf(format, args...)}
}

func (f *Form) scan() error {
	delimiter := []byte("\r\n--" + f.boundary)
	b := f.body
	if !bytes.HasPrefix(b, delimiter[2:]) {
		return badForm("it does not begin with the boundary")
	}
	i := len(delimiter) - 2
	for {
		// Behind a boundary: the end, or a part.
		if bytes.HasPrefix(b[i:], []byte("--")) {
			return nil
		}
		if !bytes.HasPrefix(b[i:], []byte("\r\n")) {
			return badForm("unexpected bytes after a boundary at %d", i)
		}
		if len(f.parts) == maxParts {
			return badForm("more than %d parts", maxParts)
		}
		i += 2
		head := bytes.Index(b[i:min(len(b), i+maxPartHeader)], []byte("\r\n\r\n"))
		if head < 0 {
			return badForm("the header of part %d has no end within %d bytes", len(f.parts)+1, maxPartHeader)
		}
		part, err := parsePart(b[i : i+head])
		if err != nil {
			return err
		}
		part.Start = i + head + 4
		size := bytes.Index(b[part.Start:], delimiter)
		if size < 0 {
			return badForm("part %d has no end", len(f.parts)+1)
		}
		part.End = part.Start + size
		f.parts = append(f.parts, part)
		i = part.End + len(delimiter)
	}
}

func parsePart(header []byte) (Part, error) {
	p := Part{Plain: true}
	seen := false
	for line := range strings.SplitSeq(string(header), "\r\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok || key == "" || strings.ContainsFunc(key, notToken) || strings.ContainsFunc(value, notField) {
			return p, badForm("a part's header has a line that is no field")
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "content-disposition":
			kind, params, err := mime.ParseMediaType(value)
			if err != nil || kind != "form-data" || params["name"] == "" || seen {
				return p, badForm("a part's Content-Disposition is not that of a form field")
			}
			seen = true
			p.Name = params["name"]
			_, p.File = params["filename"]
		case "content-transfer-encoding":
			switch strings.ToLower(value) {
			case "binary", "8bit", "7bit":
			default:
				p.Plain = false
			}
		}
	}
	if !seen {
		return p, badForm("a part has no Content-Disposition")
	}
	return p, nil
}

// notToken and notField are what the names and values of header fields cannot have.
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r)
}

func notField(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func (f *Form) checkNames(watched []string) error {
	for _, name := range watched {
		n := 0
		for i := range f.parts {
			p := &f.parts[i]
			if p.Name != name {
				if strings.EqualFold(p.Name, name) {
					return &BadRequest{Param: p.Name, Message: fmt.Sprintf("the field is spelt %q; vendors differ in how they read other letter cases", name)}
				}
				continue
			}
			if n++; n > 1 {
				return &BadRequest{Param: name, Message: fmt.Sprintf("the field %q occurs twice", name)}
			}
			if p.File || !p.Plain {
				return &BadRequest{Param: name, Message: "must be a plain text field"}
			}
			if p.End-p.Start > maxFormText || !utf8.Valid(f.body[p.Start:p.End]) {
				return &BadRequest{Param: name, Message: "must be UTF-8 text of at most 1 MB"}
			}
		}
	}
	return nil
}

// Parts are all fields in their order.
func (f *Form) Parts() []Part { return f.parts }

// Bytes is the value of a part.
func (f *Form) Bytes(p Part) []byte { return f.body[p.Start:p.End] }

// Text is a watched field; ok is false when it is not there.
func (f *Form) Text(name string) (text string, ok bool) {
	for _, p := range f.parts {
		if p.Name == name {
			return string(f.body[p.Start:p.End]), true
		}
	}
	return "", false
}

// SetModel puts upstream's name of the model into the form. It is the only edit
// that forms take: param_override is for JSON.
func (f *Form) SetModel(r *Request, e Edits) ([]byte, error) {
	if e.Model == "" || e.Model == r.Model {
		return r.Body, nil
	}
	if strings.ContainsFunc(e.Model, unicode.IsControl) {
		return nil, fmt.Errorf("model name %q has control characters", e.Model)
	}
	var s Splices
	for _, p := range f.parts {
		if p.Name == "model" {
			s = append(s, Splice{p.Start, p.End, e.Model})
			return s.Apply(r.Body), nil
		}
	}
	s.Insert(0, "--"+f.boundary+"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"+e.Model+"\r\n")
	return s.Apply(r.Body), nil
}
