package relay

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

func TestEdits(t *testing.T) {
	const odd = `{ "model" : "m" ,"big":12345678901234567890,"zero":0.0, "messages":[{"role":"user","content":"h\u00e9"}],"stream":true, "x":{}}`
	for _, c := range []struct {
		name   string
		change func(*core.Channel)
		want   string
	}{
		{"mapping", func(c *core.Channel) { c.ModelMapping = `{"m":"real-m"}` },
			`{ "model" : "real-m" ,"big":12345678901234567890,"zero":0.0, "messages":[{"role":"user","content":"h\u00e9"}],"stream":true,"stream_options":{"include_usage":true}, "x":{}}`},
		{"pass through", func(c *core.Channel) {
			c.ModelMapping, c.Setting, c.ParamOverride = `{"m":"real-m"}`, `{"pass_through_body_enabled":true,"system_prompt":"no"}`, `{"zero":1}`
		}, odd},
		{"provider without stream options", func(c *core.Channel) { c.Type = 38; c.Type = 20 }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			up := r.upstream(1, "", c.change)
			p := r.post("/v1/chat/completions", odd).want(200)
			p.has("[DONE]")
			if got := string(up.Requests()[0].Body); c.want != "" && got != c.want {
				t.Errorf("sent\n%s\nwant\n%s", got, c.want)
			}
			r.money(1, 0)
			if q := r.ledger.reserved[0]; q.Model != "m" {
				t.Fatal("billed under another name", q.Model)
			}
		})
	}
	t.Run("system prompt", func(t *testing.T) {
		r := newRig(t)
		up := r.upstream(1, "", func(c *core.Channel) { c.Setting = `{"system_prompt":"be brief"}` })
		r.post("/v1/chat/completions", chatBody).want(200)
		if got := string(up.Requests()[0].Body); !strings.Contains(got, `be brief`) {
			t.Fatal(got)
		}
	})
	t.Run("outcome names what was sent", func(t *testing.T) {
		r := newRig(t)
		r.upstream(1, "", func(c *core.Channel) { c.ModelMapping = `{"m":"real-m"}` })
		r.post("/v1/chat/completions", chatBody).want(200)
		r.money(1, 0)
		if o := r.lastSettled(); o.Sent != "real-m" || o.Path != "/v1/chat/completions" || o.IP != "192.0.2.7" || o.Duration <= 0 || o.Started.IsZero() {
			t.Fatalf("%+v", o)
		}
	})
	t.Run("return_error", func(t *testing.T) {
		r := newRig(t)
		r.upstream(1, "", priority(5), func(c *core.Channel) {
			c.ParamOverride = `{"operations":[{"mode":"return_error","value":{"message":"not on this channel","status_code":503,"code":"nope","type":"own","skip_retry":false}}]}`
		})
		r.post("/v1/chat/completions", chatBody).want(503).has("not on this channel", "nope", "own")
		r.upstream(2, "")
		r.post("/v1/chat/completions", chatBody).want(200)
	})
}

func TestAssumedOutput(t *testing.T) {
	r := newRig(t)
	r.upstream(1, "")
	r.upstream(2, "", ofType(14))
	r.cfg.Billing.AssumedOutput = 1000
	r.post("/v1/chat/completions", chatBody).want(200)
	r.post("/v1/chat/completions", chatWith(`"n":3`)).want(200)
	r.post("/v1/chat/completions", chatWith(`"max_completion_tokens":5`)).want(200)
	r.post("/v1/embeddings", `{"model":"m","input":"hi"}`).want(200)
	r.post("/v1/messages/count_tokens", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`).want(200)
	want := []int64{1000, 3000, 5, 0, 0}
	for i, q := range r.ledger.reserved {
		if q.Output != want[i] || q.Input <= 0 {
			t.Errorf("%d: %+v", i, q)
		}
	}
	r.money(5, 0)
}

// Every unary route comes through unchanged and is billed by what upstream said.
func TestRoutes(t *testing.T) {
	for path, body := range map[string]string{
		"/v1/completions":                        `{"model":"m","prompt":"hi"}`,
		"/v1/embeddings":                         `{"model":"m","input":["a","b"]}`,
		"/v1/moderations":                        `{"model":"m","input":"hi"}`,
		"/v1/rerank":                             `{"model":"m","query":"q","documents":["a","b"]}`,
		"/v1/images/generations":                 `{"model":"m","prompt":"a cat","size":"1024x1024","quality":"hd","n":2}`,
		"/v1/responses":                          `{"model":"m","input":"hi"}`,
		"/v1/messages":                           unaryForms[1].body,
		"/v1/messages/count_tokens":              `{"model":"m","messages":[{"role":"user","content":"hi"}]}`,
		"/v1beta/models/m:generateContent":       unaryForms[3].body,
		"/v1beta/models/m:embedContent":          `{"content":{"parts":[{"text":"hi"}]}}`,
		"/v1beta/models/m:batchEmbedContents":    `{"requests":[{"model":"models/m","content":{"parts":[{"text":"hi"}]}}]}`,
		"/v1beta/models/m:countTokens":           unaryForms[3].body,
		"/v1beta/models/m:streamGenerateContent": unaryForms[3].body,
	} {
		t.Run(path, func(t *testing.T) {
			r := newRig(t)
			typ := 1
			if strings.Contains(path, "messages") {
				typ = 14
			} else if strings.Contains(path, "v1beta") {
				typ = 24
			}
			up := r.upstream(1, "", ofType(typ))
			p := r.post(path, body).want(200)
			p.lacks(`"error":{`)
			if got := string(up.Requests()[0].Body); got != body {
				t.Fatalf("%s", got)
			}
			r.money(1, 0)
			if path == "/v1/images/generations" {
				if q := r.ledger.reserved[0]; q.Size != "1024x1024" || q.Quality != "hd" || q.Choices != 2 {
					t.Fatalf("%+v", q)
				}
			}
		})
	}
}

func multi(t *testing.T, fields map[string]string, file []byte) (string, func(*http.Request)) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for k, v := range fields {
		if err := w.WriteField(k, v); err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.CreateFormFile("file", "a.wav")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write(file)
	w.Close()
	return b.String(), header("Content-Type", w.FormDataContentType())
}

func TestMultipart(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, "", func(c *core.Channel) { c.ModelMapping = `{"m":"real"}` })
	sound := bytes.Repeat([]byte{0, 255, 13, 10, 45}, 20_000)
	for _, format := range []string{"json", "text", "srt", "verbose_json"} {
		body, ct := multi(t, map[string]string{"model": "m", "response_format": format}, sound)
		r.post("/v1/audio/transcriptions", body, ct).want(200)
	}
	got := up.Requests()[0]
	if !bytes.Contains(got.Body, sound) || !bytes.Contains(got.Body, []byte("real")) || !strings.HasPrefix(got.Header.Get("Content-Type"), "multipart/form-data; boundary=") {
		t.Fatal(got.Header, len(got.Body))
	}
	r.money(4, 0)
}

func TestSpeech(t *testing.T) {
	r := newRig(t)
	r.upstream(1, `{"body_bytes":300000}`)
	p := r.post("/v1/audio/speech", `{"model":"m","input":"hello","voice":"alloy"}`).want(200)
	if !strings.HasPrefix(p.Header.Get("Content-Type"), "audio/") || len(p.body) < 1000 || p.err != nil {
		t.Fatal(p.Header, len(p.body), p.err)
	}
	r.money(1, 0)
	if o := r.lastSettled(); o.Usage.Input == 0 || o.EndReason != "done" {
		t.Fatalf("%+v", o)
	}
}

func TestBinaryCut(t *testing.T) {
	r := newRig(t)
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "audio/mpeg")
		_, _ = w.Write(make([]byte, 100_000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	p := r.post("/v1/audio/speech", `{"model":"m","input":"hello","voice":"alloy"}`).want(200)
	if p.err == nil {
		t.Fatal("a cut answer looks whole")
	}
	r.money(1, 0)
	if o := r.lastSettled(); o.EndReason != "upstream_cut" {
		t.Fatalf("%+v", o)
	}
}

func TestUnaryCut(t *testing.T) {
	for _, close := range []bool{true, false} {
		r := newRig(t)
		r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if close {
				w.Header().Set("Content-Length", "1000")
			}
			_, _ = io.WriteString(w, `{"choices":[`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, priority(3))
		other := r.upstream(2, "")
		r.post("/v1/chat/completions", chatBody).want(502).has("bad_response_body")
		if other.Stats().Calls != 0 {
			t.Fatal("upstream has done its work: not again")
		}
		r.money(0, 1)
	}
}

// An answer without any mark of its end but the end of the connection.
func TestUnaryWithoutLength(t *testing.T) {
	for body, status := range map[string]int{`{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`: 200, `{"choices":[{"mess`: 502} {
		r := newRig(t)
		r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
			conn, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body)
			_ = buf.Flush()
			_ = conn.Close()
		})
		r.post("/v1/chat/completions", chatBody).want(status)
	}
}

func TestErrorBehind200(t *testing.T) {
	r := newRig(t)
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"error":{"message":"provider is busy","type":"server_error","code":502}}`)
	}, priority(4))
	r.post("/v1/chat/completions", chatBody).want(502).has("provider is busy")
	r.upstream(2, "")
	r.post("/v1/chat/completions", chatBody).want(200)
	r.money(1, 1)
}

func TestLargeUnary(t *testing.T) {
	r := newRig(t)
	body := `{"data":[{"b64_json":"` + strings.Repeat("A", maxUnary+100_000) + `"}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}`
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	})
	p := r.post("/v1/images/generations", `{"model":"m","prompt":"x"}`).want(200)
	if p.body != body || p.err != nil {
		t.Fatal(len(p.body), p.err)
	}
	if r.relay.budget.used.Load() != 0 {
		t.Fatal("budget")
	}
	// Without memory to hold it, a smaller one passes as it comes as well.
	r.cfg.Server.BodyBudget = 100 << 10
	p = r.post("/v1/images/generations", `{"model":"m","prompt":"x"}`).want(200)
	if p.body != body || p.err != nil {
		t.Fatal(len(p.body), p.err)
	}
	// Its usage is read all the same, and without one what passed is billed.
	if o := r.lastSettled(); o.Estimated || o.Usage.Output != 2 || o.Usage.Input != 1 {
		t.Fatalf("%+v", o.Usage)
	}
	body = `{"choices":[{"message":{"content":"` + strings.Repeat(`A\"usage\":{\"completion_tokens\":1}`, 10_000) + `"}}]}`
	r.post("/v1/chat/completions", chatBody).want(200)
	if o := r.lastSettled(); !o.Estimated || o.Usage.Output != r.cfg.Billing.AssumedOutput {
		t.Fatalf("%+v", o.Usage)
	}
	r.post("/v1/chat/completions", chatWith(`"max_tokens":1000000`)).want(200)
	if o := r.lastSettled(); o.Usage.Output != int64(len(body))*2/7 {
		t.Fatalf("%+v", o.Usage)
	}
	r.money(4, 0)
}

// Pooled buffers must not go back while the transport still reads them: an
// upstream that answers before it has read the body gets the right bytes, and so
// do the others meanwhile.
func TestBodiesDoNotMix(t *testing.T) {
	r := newRig(t)
	r.handler(1, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("X-Early") != "" {
			http.Error(w, "early", http.StatusBadRequest)
			return
		}
		b, err := io.ReadAll(q.Body)
		text := string(b)
		i := strings.Index(text, "mark-")
		if err != nil || i < 0 {
			http.Error(w, "no mark", http.StatusTeapot)
			return
		}
		mark := text[i : i+9]
		if strings.Count(text, mark) != strings.Count(text, "mark-") {
			http.Error(w, "mixed", http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
	}, func(c *core.Channel) { c.HeaderOverride = `{"X-Early":"{client_header:X-Early}"}` })
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 40 {
				mark := fmt.Sprintf("mark-%d%03d ", g, i)
				body := chatWith(`"x":"` + strings.Repeat(mark, 5000) + `"`)
				if i%3 == 0 {
					r.post("/v1/chat/completions", body, header("X-Early", "1")).want(400)
					continue
				}
				r.post("/v1/chat/completions", body).want(200)
			}
		})
	}
	wg.Wait()
	eventually(t, func() error {
		if n := r.relay.budget.used.Load(); n != 0 {
			return fmt.Errorf("budget %d", n)
		}
		return nil
	})
}

func TestOverflowingChoices(t *testing.T) {
	x := &exchange{op: llm.OpChat, cfg: newRig(t).cfg}
	if got := x.bound(&llm.Request{MaxOutput: 1 << 60, Choices: 1 << 10}); got != core.MaxQuota {
		t.Fatal(got)
	}
}

func TestBackoff(t *testing.T) {
	r := newRig(t)
	for n := 1; n < 70; n++ {
		if d := r.relay.backoff(n); d < backoffBase/2 || d > backoffMax {
			t.Fatal(n, d)
		}
	}
	if d := r.relay.backoff(1); d > 25*time.Millisecond {
		t.Fatal(d)
	}
}
