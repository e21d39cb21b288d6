package openai

import (
	"encoding/binary"
	"strconv"
	"strings"
	"unicode"

	"github.com/sluice-gateway/sluice/core/llm"
)

// formFields are the form fields that are read.
func formFields() []string {
	return []string{"model", "n", "size", "quality", "prompt", "stream", "response_format", "language"}
}

func parseForm(r *llm.Request, contentType string) error {
	f, err := llm.ParseForm(contentType, r.Body, formFields()...)
	if err != nil {
		return err
	}
	r.Form = f
	r.Model, _ = f.Text("model")
	if strings.ContainsFunc(r.Model, unicode.IsControl) {
		return &llm.BadRequest{Param: "model", Message: "must be one line of text"}
	}
	switch stream, _ := f.Text("stream"); strings.ToLower(strings.TrimSpace(stream)) {
	case "", "false", "0":
	case "true", "1":
		r.Stream = true
	default:
		return &llm.BadRequest{Param: "stream", Message: "must be true or false"}
	}
	return nil
}

func hasFile(f *llm.Form, names ...string) bool {
	for _, p := range f.Parts() {
		for _, name := range names {
			if p.Name == name {
				return true
			}
		}
	}
	return false
}

func parseImageForm(r *llm.Request, contentType string) error {
	if err := parseForm(r, contentType); err != nil {
		return err
	}
	f := r.Form
	if r.Model == "" {
		if _, given := f.Text("model"); given {
			return &llm.BadRequest{Param: "model", Message: "must not be empty"}
		}
		r.Model = defaultImage
	}
	prompt, _ := f.Text("prompt")
	if prompt == "" {
		return &llm.BadRequest{Param: "prompt", Message: "is required"}
	}
	if !hasFile(f, "image", "image[]") {
		return &llm.BadRequest{Param: "image", Message: "is required"}
	}
	r.Image.Size, _ = f.Text("size")
	r.Image.Quality, _ = f.Text("quality")
	var t llm.Tally
	t.Add(prompt)
	for _, p := range f.Parts() {
		if p.File {
			t.Media++
		}
	}
	r.Input = t.Tokens()
	if n, given := f.Text("n"); given {
		count, err := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		if err != nil {
			return &llm.BadRequest{Param: "n", Message: "must be a whole number"}
		}
		return setChoices(r, count)
	}
	return nil
}

func parseAudioForm(r *llm.Request, contentType string) error {
	if err := parseForm(r, contentType); err != nil {
		return err
	}
	if r.Model == "" {
		return &llm.BadRequest{Param: "model", Message: "is required"}
	}
	if !hasFile(r.Form, "file") {
		return &llm.BadRequest{Param: "file", Message: "is required"}
	}
	prompt, _ := r.Form.Text("prompt")
	var t llm.Tally
	t.Add(prompt)
	r.Input = t.Tokens()
	for _, p := range r.Form.Parts() {
		if p.Name == "file" {
			r.Input += llm.DurationTokens(seconds(r.Form.Bytes(p)))
		}
	}
	return nil
}

// otherRate is the assumed bit rate of sound that is neither WAV nor MP3: that
// of Opus and AAC as recorders use it for speech.
const otherRate = 48_000

// seconds estimates how long a recording is: a WAV from its header, an MP3 from
// its first frame, another from an assumed bit rate.
func seconds(b []byte) float64 {
	if len(b) > 44 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WAVE" && string(b[12:16]) == "fmt " {
		if rate := binary.LittleEndian.Uint32(b[28:]); rate > 0 {
			return float64(len(b)-44) / float64(rate)
		}
	}
	rate := mp3Rate(b)
	if rate == 0 {
		rate = otherRate
	}
	return float64(len(b)) * 8 / float64(rate)
}

// mp3Rate is the bit rate of an MP3's first frame, 0 for what is none.
func mp3Rate(b []byte) int {
	if len(b) > 10 && string(b[:3]) == "ID3" {
		size := int(b[6]&0x7f)<<21 | int(b[7]&0x7f)<<14 | int(b[8]&0x7f)<<7 | int(b[9]&0x7f)
		b = b[min(len(b), 10+size):]
	}
	if len(b) < 4 || b[0] != 0xff || b[1]&0xe0 != 0xe0 || b[1]>>1&3 != 1 { // sync, layer III
		return 0
	}
	mpeg1 := [16]int{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}
	mpeg2 := [16]int{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}
	if b[1]>>3&3 == 3 {
		return mpeg1[b[2]>>4] * 1000
	}
	return mpeg2[b[2]>>4] * 1000
}
