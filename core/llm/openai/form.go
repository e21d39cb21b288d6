package openai

import (
	"bytes"
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
// its frames, another from an assumed bit rate. It is what is billed where the
// vendor says nothing, so a number that decoders do not look at counts nothing.
func seconds(b []byte) float64 {
	if rate := wavRate(b); rate > 0 {
		return float64(len(b)-wavHeader) / float64(rate)
	}
	long, rest := mp3Seconds(b)
	return long + float64(rest)*8/otherRate
}

const wavHeader = 44

// wavRate is how many bytes a second of an uncompressed WAV has, by what its
// samples are: the byte rate beside it is the client's word. 0 for another file.
func wavRate(b []byte) int64 {
	if len(b) <= wavHeader || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" || string(b[12:16]) != "fmt " {
		return 0
	}
	switch binary.LittleEndian.Uint16(b[20:]) {
	case 1, 3, 6, 7, 0xfffe: // integers, floats, A-law, mu-law, extensible
	default:
		return 0
	}
	channels, bits := int64(binary.LittleEndian.Uint16(b[22:])), int64(binary.LittleEndian.Uint16(b[34:]))
	return int64(binary.LittleEndian.Uint32(b[24:])) * channels * ((bits + 7) / 8)
}

// mp3Seconds adds up the frames of an MP3; rest is how many bytes are in none.
func mp3Seconds(b []byte) (long float64, rest int) {
	if len(b) > 10 && string(b[:3]) == "ID3" {
		size := int(b[6]&0x7f)<<21 | int(b[7]&0x7f)<<14 | int(b[8]&0x7f)<<7 | int(b[9]&0x7f)
		if at := 10 + size; at+4 <= len(b) && isMP3(b[at:]) {
			b = b[at:]
		}
	}
	if n := len(b) - 128; n > 0 && string(b[n:n+3]) == "TAG" && isMP3(b) {
		b = b[:n]
	}
	for len(b) > 0 {
		size, t := mp3Frame(b)
		if size == 0 {
			next := bytes.IndexByte(b[1:], 0xff) + 1
			if next == 0 {
				next = len(b)
			}
			rest += next
			b = b[next:]
			continue
		}
		long += t
		b = b[min(size, len(b)):]
	}
	return long, rest
}

func isMP3(b []byte) bool { n, _ := mp3Frame(b); return n > 0 }

var (
	mp3Rates   = [2][16]int{{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}, {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}}
	mp3Samples = [4]int{44100, 48000, 32000}
)

// mp3Frame is the size and the time of the layer III frame that b begins with, 0
// for none.
func mp3Frame(b []byte) (size int, long float64) {
	if len(b) < 4 || b[0] != 0xff || b[1]&0xe0 != 0xe0 || b[1]>>1&3 != 1 || b[1]>>3&3 == 1 {
		return 0, 0
	}
	version, bytesPer, samples := 0, 72, 576 // MPEG 2 and 2.5
	rate := mp3Samples[b[2]>>2&3]
	switch b[1] >> 3 & 3 {
	case 3:
		version, bytesPer, samples = 1, 144, 1152
	case 2:
		rate /= 2
	default:
		rate /= 4
	}
	kbits := mp3Rates[version][b[2]>>4]
	if rate == 0 || kbits == 0 {
		return 0, 0
	}
	return bytesPer*kbits*1000/rate + int(b[2]>>1&1), float64(samples) / float64(rate)
}
