package fakellm

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
)

// pixel is a PNG of one pixel.
var pixel = mustDecode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

func mustDecode(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// images answers generations and edits. Models named gpt-image… report usage.
func (c *call) images() {
	if !c.need("prompt", c.f.prompt) {
		return
	}
	if strings.HasSuffix(c.r.URL.Path, "/edits") && !c.f.hasFile {
		c.fail(http.StatusBadRequest, "Missing required parameter: 'image'.")
		return
	}
	size, _ := c.promptSize()
	in := tokens(size)
	b := []byte(`{"created":1700000000,"data":[`)
	for i := range c.f.n {
		if i > 0 {
			b = append(b, ',')
		}
		if c.f.format == "url" {
			b = append(b, `{"url":"https://images.example/fake.png"}`...)
			continue
		}
		b = append(b, `{"b64_json":"`...)
		b = base64.StdEncoding.AppendEncode(b, pixel)
		b = append(b, `"}`...)
	}
	b = append(b, ']')
	switch {
	case c.k.NoUsage:
	case len(c.k.Usage) > 0:
		b = append(append(b, `,"usage":`...), c.k.Usage...)
	case strings.HasPrefix(c.f.model, "gpt-image"):
		image := int64(0)
		if c.f.hasFile {
			image = 64
		}
		out := 272 * int64(c.f.n)
		b = strconv.AppendInt(append(b, `,"usage":{"input_tokens":`...), in+image, 10)
		b = strconv.AppendInt(append(b, `,"input_tokens_details":{"text_tokens":`...), in, 10)
		b = strconv.AppendInt(append(b, `,"image_tokens":`...), image, 10)
		b = strconv.AppendInt(append(b, `},"output_tokens":`...), out, 10)
		b = strconv.AppendInt(append(b, `,"total_tokens":`...), in+image+out, 10)
		b = append(b, '}')
	}
	c.reply("application/json", append(b, '}'))
}

// transcribe answers transcriptions and translations: what was "heard" names the
// size of the file.
func (c *call) transcribe() {
	if !c.needModel() {
		return
	}
	if !c.f.hasFile {
		c.fail(http.StatusBadRequest, "Missing required parameter: 'file'.")
		return
	}
	text, _ := c.answer("a file of " + strconv.FormatInt(c.f.fileBytes, 10) + " bytes")
	in, out := max(1, c.f.fileBytes/1000), tokens(len(text))
	usage := func(b []byte) []byte {
		switch {
		case c.k.NoUsage:
			return b
		case len(c.k.Usage) > 0:
			return append(append(b, `,"usage":`...), c.k.Usage...)
		}
		b = strconv.AppendInt(append(b, `,"usage":{"type":"tokens","input_tokens":`...), in, 10)
		b = strconv.AppendInt(append(b, `,"input_token_details":{"text_tokens":0,"audio_tokens":`...), in, 10)
		b = strconv.AppendInt(append(b, `},"output_tokens":`...), out, 10)
		b = strconv.AppendInt(append(b, `,"total_tokens":`...), in+out, 10)
		return append(b, '}')
	}
	if c.f.stream {
		c.play(script{
			contentType: "text/event-stream; charset=utf-8",
			delta: func(b []byte, _ int, piece string) []byte {
				b = append(b, `data: {"type":"transcript.text.delta","delta":`...)
				return append(quote(b, piece), "}\n\n"...)
			},
			close: func(b []byte) []byte {
				b = append(b, `data: {"type":"transcript.text.done","text":`...)
				return c.done(append(usage(quote(b, text)), "}\n\n"...))
			},
			fail: c.openAIFail,
		}, c.pieces(text))
		return
	}
	switch c.f.format {
	case "text":
		c.reply("text/plain; charset=utf-8", append([]byte(text), '\n'))
	case "srt":
		c.reply("text/plain; charset=utf-8", []byte("1\n00:00:00,000 --> 00:00:01,000\n"+text+"\n\n"))
	case "vtt":
		c.reply("text/vtt; charset=utf-8", []byte("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n"+text+"\n\n"))
	case "verbose_json":
		b := quote([]byte(`{"task":"transcribe","language":"english","duration":1.0,"text":`), text)
		b = quote(append(b, `,"segments":[{"id":0,"seek":0,"start":0.0,"end":1.0,"tokens":[],"temperature":0.0,"avg_logprob":-0.1,"compression_ratio":1.0,"no_speech_prob":0.01,"text":`...), text)
		b = append(b, `}]`...)
		if len(c.k.Usage) > 0 || c.k.NoUsage {
			b = usage(b)
		} else {
			b = append(b, `,"usage":{"type":"duration","seconds":1}`...)
		}
		c.reply("application/json", append(b, '}'))
	default:
		b := quote([]byte(`{"text":`), text)
		c.reply("application/json", append(usage(b), '}'))
	}
}

// speech answers with bytes that are no text: 32 for each byte of the input.
func (c *call) speech() {
	if !c.need("input", c.f.input) {
		return
	}
	kind := map[string]string{"": "audio/mpeg", "mp3": "audio/mpeg", "opus": "audio/opus", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav", "pcm": "audio/pcm"}[c.f.format]
	if kind == "" {
		c.fail(http.StatusBadRequest, "Invalid value: 'response_format'.")
		return
	}
	n := 32 * max(1, len(c.f.input.Str))
	if c.k.BodyBytes > 0 {
		n = c.k.BodyBytes
	}
	b := make([]byte, n)
	x := uint32(2166136261)
	for i := range b {
		x = (x ^ uint32(i)) * 16777619
		b[i] = byte(x >> 24)
	}
	c.reply(kind, b)
}
