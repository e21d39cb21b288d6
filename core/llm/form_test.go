package llm

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"
)

const (
	formType = `multipart/form-data; boundary="x-1"`
	formBody = "--x-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n" +
		"--x-1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\x00\r\n--x\r\n\xff\r\n--x-1--\r\nepilogue"
)

func TestForm(t *testing.T) {
	f, err := ParseForm(formType, []byte(formBody), "model")
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := f.Text("model"); m != "whisper-1" || !ok {
		t.Errorf("model %q", m)
	}
	parts := f.Parts()
	if len(parts) != 2 || !parts[1].File || parts[0].File || string(f.Bytes(parts[1])) != "\x00\r\n--x\r\n\xff" {
		t.Errorf("%+v", parts)
	}
	r := &Request{Model: "whisper-1", Body: []byte(formBody)}
	got, err := f.SetModel(r, Edits{Model: "up"})
	if want := strings.Replace(formBody, "whisper-1", "up", 1); err != nil || string(got) != want {
		t.Errorf("%q %v", got, err)
	}
	if _, err := f.SetModel(r, Edits{Model: "a\r\nb"}); err == nil {
		t.Error("a model of two lines")
	}
}

func TestFormRefusals(t *testing.T) {
	head := "--x-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"
	many := strings.Repeat("--x-1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n", maxParts+1)
	cases := map[string]struct{ contentType, body, want string }{
		"another type":     {"application/json", formBody, "must be multipart/form-data"},
		"no boundary":      {"multipart/form-data", formBody, "boundary"},
		"long boundary":    {"multipart/form-data; boundary=" + strings.Repeat("a", 71), formBody, "boundary"},
		"preamble":         {formType, "hello\r\n" + formBody, "does not begin"},
		"line feeds":       {formType, strings.ReplaceAll(formBody, "\r\n", "\n"), "after a boundary"},
		"no end":           {formType, head + "m", "no end"},
		"header's end":     {formType, "--x-1\r\nContent-Disposition: form-data; name=\"model\"\r\n", "no end within"},
		"long header":      {formType, "--x-1\r\nX: " + strings.Repeat("a", maxPartHeader) + "\r\n\r\n", "no end within"},
		"many parts":       {formType, many + "--x-1--", "more than"},
		"after a boundary": {formType, head + "m\r\n--x-1junk\r\n\r\n", "after a boundary"},
		"no disposition":   {formType, "--x-1\r\nX: y\r\n\r\nm\r\n--x-1--", "no Content-Disposition"},
		"an attachment":    {formType, "--x-1\r\nContent-Disposition: attachment; name=\"model\"\r\n\r\nm\r\n--x-1--", "form field"},
		"two dispositions": {formType, "--x-1\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x-1--", "form field"},
		"folded header":    {formType, "--x-1\r\nContent-Disposition: form-data;\r\n name=\"model\"\r\n\r\nm\r\n--x-1--", "form field"},
		"encoded":          {formType, "--x-1\r\nContent-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64\r\n\r\nbQ==\r\n--x-1--", "plain text"},
		"twice":            {formType, head + "a\r\n" + head + "b\r\n--x-1--", "twice"},
		"in another case":  {formType, "--x-1\r\nContent-Disposition: form-data; name=\"MODEL\"\r\n\r\nm\r\n--x-1--", "spelt"},
		"no UTF-8":         {formType, head + "\xff\r\n--x-1--", "UTF-8"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := ParseForm(c.contentType, []byte(c.body), "model")
			var bad *BadRequest
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
}

// FuzzForm: what we read of a form is what mime/multipart reads, and setting the
// model changes the model alone.
func FuzzForm(f *testing.F) {
	f.Add([]byte(formBody), "up")
	f.Add([]byte("--x-1\r\nContent-Disposition: form-data; name=n\r\n\r\n2\r\n--x-1--\r\n"), "m")
	f.Add([]byte("--x-1\r\nContent-Disposition: form-data; name=\"model\"; filename*=utf-8''a\r\n\r\n\r\n--x-1--"), "m")
	f.Add([]byte("--x-1\r\ncontent-disposition: form-data; name=\"mod\\el\"\r\n\r\n\r\n--x-1-- "), "m")
	f.Fuzz(func(t *testing.T, body []byte, model string) {
		form, err := ParseForm(formType, body, "model", "n")
		if err != nil {
			return
		}
		checkForm(t, form, body, "", "")
		name, _ := form.Text("model")
		out, err := form.SetModel(&Request{Model: name, Body: body}, Edits{Model: model})
		if err != nil || strings.Contains(model, "--x-1") {
			return
		}
		if model == "" {
			model = name
		}
		checkForm(t, form, out, "model", model)
	})
}

// checkForm compares a form with what mime/multipart reads of a body, in which
// one field has another value.
func checkForm(t *testing.T, form *Form, body []byte, changed, value string) {
	t.Helper()
	_, params, _ := mime.ParseMediaType(formType)
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	parts := form.Parts()
	if _, has := form.Text(changed); changed != "" && !has && len(body) > len(form.body) {
		parts = append([]Part{{Name: changed}}, parts...)
	}
	for i := 0; ; i++ {
		p, err := r.NextRawPart()
		if err != nil {
			// The reader wants the very end to be well formed; we pass it as it is.
			if i < len(parts) {
				t.Fatalf("we read %d parts, mime/multipart %d: %v", len(parts), i, err)
			}
			return
		}
		if i >= len(parts) {
			t.Fatalf("mime/multipart reads more than %d parts", len(parts))
		}
		got, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		want := form.Bytes(parts[i])
		if parts[i].Name == changed {
			want = []byte(value)
		}
		if p.FormName() != parts[i].Name || !bytes.Equal(got, want) {
			t.Fatalf("part %d: we read %q %q, mime/multipart %q %q", i, parts[i].Name, want, p.FormName(), got)
		}
	}
}
