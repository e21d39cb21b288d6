package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// form is a stream in one of the formats.
type form struct {
	name, path, body string
	channel          int
	end              string // of a whole stream
	fault            string // of an error inside a stream
}

var streamForms = []form{
	{"openai", "/v1/chat/completions", chatWith(`"stream":true`), 1, "data: [DONE]\n\n", `data: {"error":`},
	{"claude", "/v1/messages", `{"model":"m","max_tokens":99,"stream":true,"messages":[{"role":"user","content":"hi"}]}`, 14, `"message_stop"}` + "\n\n", "event: error\n"},
	{"responses", "/v1/responses", `{"model":"m","input":"hi","stream":true}`, 1, "\n\n", "event: error\n"},
	{"gemini", "/v1beta/models/m:streamGenerateContent?alt=sse", `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`, 24, "\n\n", `data: {"error":`},
}

func TestStreamForms(t *testing.T) {
	for _, f := range streamForms {
		for _, fake := range []string{`{}`, `{"crlf":true}`, `{"comments":true}`, `{"no_usage":true}`, `{"chunk_delay_ms":2}`} {
			t.Run(f.name+fake, func(t *testing.T) {
				r := newRig(t)
				r.upstream(1, fake, ofType(f.channel))
				p := r.post(f.path, f.body).want(200)
				if p.err != nil || !strings.HasSuffix(strings.ReplaceAll(p.body, "\r\n", "\n"), f.end) {
					t.Fatalf("%v %q", p.err, p.body)
				}
				if !strings.HasPrefix(p.Header.Get("Content-Type"), "text/event-stream") {
					t.Fatal(p.Header)
				}
				p.lacks(`"error":{`)
				r.money(1, 0)
				o := r.lastSettled()
				if o.Estimated != strings.Contains(fake, "no_usage") || o.Usage.Output == 0 || o.EndReason != "done" || !o.Stream {
					t.Fatalf("%+v", o)
				}
			})
		}
	}
}

// A stream that ends too early is an error in the caller's format, never a clean end.
func TestStreamCut(t *testing.T) {
	for _, f := range streamForms {
		for _, fake := range []string{`{"cut_after_chunks":3}`, `{"end_after_chunks":3}`} {
			t.Run(f.name+fake, func(t *testing.T) {
				r := newRig(t)
				r.upstream(1, fake, ofType(f.channel), priority(9))
				other := r.upstream(2, "", ofType(f.channel))
				p := r.post(f.path, f.body).want(200)
				if p.err != nil {
					t.Fatal(p.err)
				}
				p.has(f.fault, "ended its answer before it was complete", "req-test").lacks("[DONE]", "message_stop", "response.completed", "finishReason\":\"STOP")
				if f.name == "claude" {
					p.has(`"type":"error"`)
				}
				if other.Stats().Calls != 0 {
					t.Fatal("tried again after the first byte")
				}
				r.money(1, 0)
				o := r.lastSettled()
				if !o.Estimated || o.EndReason != "upstream_cut" || o.Usage.Output == 0 || o.Err == nil {
					t.Fatalf("%+v", o)
				}
			})
		}
	}
}

// Nothing was given to the client: another channel does it.
func TestStreamCutBeforeTheFirstFrame(t *testing.T) {
	for _, fake := range []string{`{"close":true}`, `{"garbage":true}`} {
		r := newRig(t)
		r.upstream(1, fake, priority(9))
		r.upstream(2, "")
		p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
		p.has("Hello", "[DONE]").lacks("error")
		r.money(1, 0)
	}
	r := newRig(t)
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
	})
	r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(502).has("bad_response_body")
	r.money(0, 1)
}

func TestStreamUpstreamErrorEvent(t *testing.T) {
	for _, f := range streamForms {
		t.Run(f.name+" inside", func(t *testing.T) {
			r := newRig(t)
			r.upstream(1, `{"error_after_chunks":2}`, ofType(f.channel))
			p := r.post(f.path, f.body).want(200)
			if n := strings.Count(p.body, `"error"`); n == 0 || strings.Contains(p.body, "req-test") {
				t.Fatalf("%q", p.body)
			}
			r.money(1, 0)
			if o := r.lastSettled(); o.EndReason != "upstream_error" || o.Usage.Output == 0 {
				t.Fatalf("%+v", o)
			}
		})
	}
	t.Run("first", func(t *testing.T) {
		r := newRig(t)
		r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n")
		}, ofType(14), priority(9))
		p := r.post(streamForms[1].path, streamForms[1].body).want(503).has("Overloaded", "overloaded_error")
		if p.Header.Get("Retry-After") == "" {
			t.Fatal(p.Header)
		}
		r.upstream(2, "", ofType(14))
		r.post(streamForms[1].path, streamForms[1].body).want(200).has("message_stop")
		r.money(1, 1)
	})
}

func TestStreamMissingDoneIsNotInvented(t *testing.T) {
	r := newRig(t)
	r.upstream(1, `{"no_done":true}`)
	p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	p.has("finish_reason").lacks("[DONE]", `"error"`)
	r.money(1, 0)
	if o := r.lastSettled(); o.Estimated {
		t.Fatalf("%+v", o)
	}
}

func TestUsageChunk(t *testing.T) {
	for _, c := range []struct {
		name, extra   string
		set           func(*rig)
		asked, gotten bool // upstream is asked for it; the client gets it
	}{
		{"not asked for", `"stream":true`, nil, true, false},
		{"asked for", `"stream":true,"stream_options":{"include_usage":true}`, nil, true, true},
		{"refused", `"stream":true,"stream_options":{"include_usage":false}`, nil, true, false},
		{"not forced", `"stream":true`, func(r *rig) { r.cfg.Relay.ForceStreamOption = false }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			up := r.upstream(1, "")
			if c.set != nil {
				c.set(r)
			}
			p := r.post("/v1/chat/completions", chatWith(c.extra)).want(200)
			if got := strings.Contains(p.body, `"usage":{`); got != c.gotten {
				t.Errorf("usage chunk given: %v\n%s", got, p.body)
			}
			if got := strings.Contains(string(up.Requests()[0].Body), `"include_usage":true`); got != c.asked {
				t.Errorf("usage asked for: %v", got)
			}
			r.money(1, 0)
			if o := r.lastSettled(); o.Estimated == c.asked || o.Usage.Output == 0 {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestStreamEachFrameAtOnce(t *testing.T) {
	r := newRig(t)
	step := make(chan struct{})
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 5 {
			_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%d\"}}]}\n\n", i)
			_ = http.NewResponseController(w).Flush()
			<-step
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	res := r.open("/v1/chat/completions", chatWith(`"stream":true`))
	defer res.Body.Close()
	next := frames(res.Body)
	for i := range 5 {
		f, err := next() // would wait for ever if a frame were held back
		if err != nil || !strings.Contains(f, fmt.Sprintf(`"content":"%d"`, i)) {
			t.Fatal(f, err)
		}
		step <- struct{}{}
	}
	if f, err := next(); err != nil || f != "data: [DONE]\n\n" {
		t.Fatal(f, err)
	}
	if _, err := next(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	r.money(1, 0)
}

// The booking is done before the client sees the last frame.
func TestSettleBeforeTheLastByte(t *testing.T) {
	for _, f := range streamForms {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			r.upstream(1, "", ofType(f.channel))
			var settling atomic.Bool
			release := make(chan struct{})
			r.ledger.OnSettle = func() { settling.Store(true); <-release }
			res := r.open(f.path, f.body)
			defer res.Body.Close()
			got := make(chan string, 1000)
			var wg sync.WaitGroup
			wg.Go(func() {
				defer close(got)
				next := frames(res.Body)
				for {
					s, err := next()
					if err != nil {
						return
					}
					got <- s
				}
			})
			eventually(t, func() error {
				if !settling.Load() {
					return errors.New("not settling")
				}
				return nil
			})
			before := ""
			for len(got) > 0 {
				before += <-got
			}
			if strings.Contains(before, "[DONE]") || strings.Contains(before, "message_stop") || strings.Contains(before, "response.completed") {
				t.Fatal("the last frame was given out before the booking")
			}
			close(release)
			after := ""
			for s := range got {
				after += s
			}
			wg.Wait()
			if f.name != "gemini" && after == "" {
				t.Fatal("nothing came after the booking")
			}
			r.money(1, 0)
		})
	}
	t.Run("unary", func(t *testing.T) {
		r := newRig(t)
		r.upstream(1, "")
		release := make(chan struct{})
		r.ledger.OnSettle = func() { <-release }
		var done atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() { r.post("/v1/chat/completions", chatBody).want(200); done.Store(true) })
		eventually(t, func() error {
			if len(r.ledger.reservedNow()) == 0 {
				return errors.New("not reserved")
			}
			return nil
		})
		if done.Load() {
			t.Fatal("answered before the booking")
		}
		close(release)
		wg.Wait()
	})
}

func (l *fakeLedger) reservedNow() []core.ReserveRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reserved
}

func TestClientLeaves(t *testing.T) {
	for _, f := range streamForms {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			up := r.upstream(1, `{"endless":true,"chunk_delay_ms":5}`, ofType(f.channel))
			ctx, cancel := context.WithCancel(context.Background())
			res := r.open(f.path, f.body, func(q *http.Request) { *q = *q.WithContext(ctx) })
			next := frames(res.Body)
			for range 10 {
				if _, err := next(); err != nil {
					t.Fatal(err)
				}
			}
			left := time.Now()
			cancel()
			res.Body.Close()
			eventually(t, func() error {
				if up.Stats().InFlight != 0 {
					return errors.New("upstream is still running")
				}
				return nil
			})
			if took := up.Stats().LastCancel.Sub(left); took > 100*time.Millisecond {
				t.Fatalf("upstream was cancelled after %v", took)
			}
			r.money(1, 0)
			if o := r.lastSettled(); o.EndReason != "client_gone" || !o.Estimated || o.Usage.Output == 0 || o.Status != 499 {
				t.Fatalf("%+v", o)
			}
		})
	}
	t.Run("between two attempts", func(t *testing.T) {
		r := newRig(t)
		up := r.upstream(1, `{"status":429,"retry_after":"3"}`)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", strings.NewReader(chatBody))
			req.Header.Set("Authorization", "sk-"+testKey)
			if res, err := r.client.Do(req); err == nil {
				res.Body.Close()
			}
		})
		eventually(t, func() error {
			if st := up.Stats(); st.Calls != 1 || st.InFlight != 0 {
				return errors.New("not there yet")
			}
			return nil
		})
		cancel()
		wg.Wait()
		r.money(0, 1) // upstream refused: nothing was charged
	})
	t.Run("before the answer", func(t *testing.T) {
		r := newRig(t)
		up := r.upstream(1, `{"hang":true}`)
		other := r.upstream(2, `{"hang":true}`)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", strings.NewReader(chatBody))
			req.Header.Set("Authorization", "sk-"+testKey)
			if res, err := r.client.Do(req); err == nil {
				res.Body.Close()
			}
		})
		running := func() int64 { return up.Stats().InFlight + other.Stats().InFlight }
		eventually(t, func() error {
			if running() == 0 {
				return errors.New("not there yet")
			}
			return nil
		})
		left := time.Now()
		cancel()
		eventually(t, func() error {
			if running() != 0 {
				return errors.New("upstream is still running")
			}
			return nil
		})
		if took := time.Since(left); took > 150*time.Millisecond {
			t.Fatal(took)
		}
		wg.Wait()
		if up.Stats().Calls+other.Stats().Calls != 1 {
			t.Fatal("tried again for a client that left")
		}
		// Upstream read the prompt and charges for it.
		r.money(1, 0)
		if o := r.lastSettled(); o.EndReason != "client_gone" || o.Status != 499 || !o.Estimated || o.Usage.Input == 0 || o.Usage.Output != 0 {
			t.Fatalf("%+v", o)
		}
	})
}

func TestPing(t *testing.T) {
	r := newRig(t)
	r.cfg.Relay.PingInterval = 20 * time.Millisecond
	r.upstream(1, `{"chunk_delay_ms":70,"text":"a b c"}`)
	p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	if n := strings.Count(p.body, ": ping\n\n"); n < 2 {
		t.Fatalf("%d pings: %q", n, p.body)
	}
	for frame := range strings.SplitSeq(strings.TrimSuffix(p.body, "\n\n"), "\n\n") {
		if frame != ": ping" && (!strings.HasPrefix(frame, "data: ") || strings.Contains(frame[6:], ": ping")) {
			t.Fatalf("a ping inside a frame: %q", frame)
		}
	}
	p.has("[DONE]")
	r.money(1, 0)

	// Never in an array, never in a unary answer, never before the status.
	r.upstream(2, `{"chunk_delay_ms":70,"text":"a b c"}`, ofType(24))
	r.post("/v1beta/models/m:streamGenerateContent", streamForms[3].body).want(200).lacks("ping")
	r.upstream(1, `{"first_byte_delay_ms":100}`)
	r.post("/v1/chat/completions", chatBody).want(200).lacks("ping")
	r.upstream(1, `{"first_byte_delay_ms":100,"status":400}`)
	r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(400).lacks("ping")
}

func TestPingBeforeStatus(t *testing.T) {
	r := newRig(t)
	r.cfg.Relay.PingInterval, r.cfg.Relay.PingBeforeStatus = 20*time.Millisecond, true
	r.upstream(1, `{"first_byte_delay_ms":100,"status":500}`, priority(9))
	r.upstream(2, `{"first_byte_delay_ms":100}`)
	p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	p.has(": ping\n\n", "Hello", "[DONE]").lacks("error")
	r.money(1, 0)

	delete(r.rows.Channels, 2)
	r.rebuild()
	p = r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	p.has(": ping\n\n", `data: {"error":`).lacks("[DONE]")
	r.money(1, 1)

	// A JSON answer has no place in the event stream that was begun.
	r.upstream(1, `{"first_byte_delay_ms":100}`, func(c *core.Channel) { c.ParamOverride = `{"stream":false}` })
	p = r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	p.has(": ping\n\n", `data: {"error":`, "bad_response_body").lacks("[DONE]")
	r.post("/v1/chat/completions", chatBody).want(200).lacks("ping")
}

func TestTimeouts(t *testing.T) {
	t.Run("first byte", func(t *testing.T) {
		r := newRig(t)
		r.cfg.Relay.FirstByteTimeout = 60 * time.Millisecond
		hung := r.upstream(1, `{"hang":true}`, priority(9))
		r.upstream(2, "")
		r.post("/v1/chat/completions", chatBody).want(200)
		delete(r.rows.Channels, 2)
		r.rebuild()
		r.post("/v1/chat/completions", chatBody).want(504).has("upstream_timeout")
		r.money(1, 1)
		eventually(t, func() error {
			if hung.Stats().InFlight != 0 {
				return errors.New("not cancelled")
			}
			return nil
		})
	})
	t.Run("idle", func(t *testing.T) {
		r := newRig(t)
		r.cfg.Relay.IdleTimeout = 60 * time.Millisecond
		r.upstream(1, `{"hang_after_chunks":2}`)
		p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
		p.has("upstream_timeout", `data: {"error":`).lacks("[DONE]")
		r.money(1, 0)
		if o := r.lastSettled(); o.EndReason != "timeout" || !o.Estimated {
			t.Fatalf("%+v", o)
		}
	})
	t.Run("total", func(t *testing.T) {
		r := newRig(t)
		r.cfg.Relay.Timeout = 100 * time.Millisecond
		r.upstream(1, `{"endless":true,"chunk_delay_ms":5}`)
		p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
		p.has("upstream_timeout")
		r.upstream(1, `{"hang":true}`, priority(9))
		other := r.upstream(2, "")
		r.post("/v1/chat/completions", chatBody).want(504)
		if other.Stats().Calls != 0 {
			t.Fatal("tried again after the whole time was over")
		}
		r.money(1, 1)
	})
}

func TestArrayFraming(t *testing.T) {
	r := newRig(t)
	step := make(chan struct{})
	pieces := []string{"[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a]\\\"}\"}]}}]}", "\n,\r\n{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"b\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":2,\"totalTokenCount\":5}}", "\n]"}
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		for _, p := range pieces {
			_, _ = io.WriteString(w, p)
			_ = http.NewResponseController(w).Flush()
			<-step
		}
	}, ofType(24))
	res := r.open("/v1beta/models/m:streamGenerateContent", streamForms[3].body)
	defer res.Body.Close()
	buf := make([]byte, 4096)
	for i, want := range pieces[:2] {
		n, err := io.ReadAtLeast(res.Body, buf, len(want))
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("%d: %q %v", i, buf[:n], err)
		}
		step <- struct{}{}
	}
	close(step)
	rest, err := io.ReadAll(res.Body)
	if err != nil || string(rest) != pieces[2] {
		t.Fatalf("%q %v", rest, err)
	}
	r.money(1, 0)
	if o := r.lastSettled(); o.Estimated || o.Usage.Input != 3 || o.Usage.Output != 2 {
		t.Fatalf("%+v", o.Usage)
	}
}

// What is left at the end of a stream, in pieces of any size.
func TestLastFrame(t *testing.T) {
	for _, c := range []struct {
		framing           llm.Framing
		in, payload, mark string
		whole             bool
	}{
		{llm.FrameSSE, "data: {}\n\n", "", "", true},
		{llm.FrameSSE, "data: {}\n\n \n", "", "", true},
		{llm.FrameSSE, "", "", "", true},
		{llm.FrameSSE, "data: {}\n\ndata: [DONE]", "[DONE]", "\n\n", true},
		{llm.FrameSSE, "data: {\"a\":1}\n", `{"a":1}`, "\n", true},
		{llm.FrameSSE, "data: {\"a\":1}\r", `{"a":1}`, "\n\n", true},
		{llm.FrameSSE, "data: {}\r\r\n", "", "", true},
		{llm.FrameSSE, "data: {}\n\n: bye", "", "\n\n", true},
		{llm.FrameSSE, "data: {\"a\":1", `{"a":1`, "\n\n", false},
		{llm.FrameSSE, "data: {}\n\nda", "", "\n\n", false},
		{llm.FrameArray, `[{}]`, "", "", true},
		{llm.FrameArray, `{"error":{}}`, "", "", true},
		{llm.FrameArray, `[{}`, "", "", false},
		{llm.FrameArray, `[{}]x`, "", "", false},
	} {
		for size := 1; size <= len(c.in)+1; size++ {
			split, buf := llm.NewSplitter(c.framing), []byte(nil)
			for in := c.in; in != ""; {
				n := min(size, len(in))
				buf, in = append(buf, in[:n]...), in[n:]
				for {
					cut, _ := split.Next(buf)
					if cut == 0 {
						break
					}
					buf = buf[cut:]
				}
			}
			payload, mark, whole := lastFrame(split, buf)
			if string(payload) != c.payload || mark != c.mark || whole != c.whole {
				t.Fatalf("%q in pieces of %d: %q %q %v", c.in, size, payload, mark, whole)
			}
		}
	}
}

// Lines that end with a lone CR, and a byte order mark, are as good as any.
func TestOldLineEnds(t *testing.T) {
	r := newRig(t)
	answer := "\xef\xbb\xbfdata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\r\r" +
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\r\rdata: [DONE]\r\r"
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, answer)
	})
	if p := r.post("/v1/chat/completions", chatWith(`"stream":true,"stream_options":{"include_usage":true}`)).want(200); p.err != nil || p.body != answer {
		t.Fatalf("%v %q", p.err, p.body)
	}
	r.money(1, 0)
	if o := r.lastSettled(); o.Estimated || o.Usage.Input != 3 || o.EndReason != "done" {
		t.Fatalf("%+v", o)
	}
}

// An array has no place for an error: the connection breaks.
func TestArrayCut(t *testing.T) {
	for _, fake := range []string{`{"cut_after_chunks":2}`, `{"end_after_chunks":2}`} {
		r := newRig(t)
		r.upstream(1, fake, ofType(24))
		p := r.post("/v1beta/models/m:streamGenerateContent", streamForms[3].body).want(200)
		if p.err == nil || !strings.HasPrefix(p.body, "[{") {
			t.Fatalf("%s: a cut array looks whole: %q", fake, p.body)
		}
		r.money(1, 0)
		if o := r.lastSettled(); o.EndReason != "upstream_cut" || !o.Estimated {
			t.Fatalf("%+v", o)
		}
	}
}

func TestLongLines(t *testing.T) {
	big := strings.Repeat("x", 10<<20)
	line := "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + big + "\"}}]}\n\n"
	r := newRig(t)
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, line+"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
	})
	p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	if !strings.HasPrefix(p.body, line) || !strings.HasSuffix(p.body, "[DONE]\n\n") {
		t.Fatal(len(p.body))
	}
	if r.relay.budget.used.Load() != 0 {
		t.Fatal("budget")
	}
	r.cfg.Relay.MaxLine = 1 << 20
	r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(502).has("relay.max_line")
	r.cfg.Relay.MaxLine = 128 << 20
	r.cfg.Server.BodyBudget = 1 << 20
	r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(503).has("system_overloaded")
	eventually(t, func() error { // the error is out before the exchange has ended
		if n := r.relay.budget.used.Load(); n != 0 {
			return fmt.Errorf("%d bytes are still held", n)
		}
		return nil
	})
	r.money(1, 2)
}

func TestNeverEndingBody(t *testing.T) {
	r := newRig(t)
	r.cfg.Relay.MaxLine = 1 << 20
	r.cfg.Server.BodyBudget = 2 << 20
	up := r.upstream(1, `{"endless":true}`)
	p := r.post("/v1/chat/completions", chatBody)
	if p.StatusCode == 200 && p.err == nil {
		t.Fatalf("%d %q", p.StatusCode, p.body[:min(len(p.body), 200)])
	}
	eventually(t, func() error {
		if up.Stats().InFlight != 0 {
			return errors.New("still running")
		}
		return nil
	})
	if r.relay.budget.used.Load() != 0 {
		t.Fatal("budget")
	}
}

func TestProgressNotes(t *testing.T) {
	r := newRig(t)
	r.upstream(1, `{"chunks":1000,"chunk_bytes":8}`)
	r.upstream(7, `{"status":500}`, priority(9))
	r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	r.money(1, 0)
	if slices.ContainsFunc(r.ledger.noted, func(id int64) bool { return id != 1 }) {
		t.Fatal("a crash would be booked on channels", r.ledger.noted)
	}
	if n := len(r.ledger.notes); n < 3 {
		t.Fatalf("%d notes", n)
	}
	last := int64(0)
	for _, u := range r.ledger.notes {
		if u.Output < last {
			t.Fatal("notes go back", r.ledger.notes)
		}
		last = u.Output
	}
}

func TestSlowReaderIsCut(t *testing.T) {
	r := newRig(t)
	r.cfg.Relay.WriteTimeout = 200 * time.Millisecond
	up := r.upstream(1, `{"endless":true,"chunk_bytes":16000}`)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := chatWith(`"stream":true`)
	_, _ = fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: sk-%s\r\nContent-Length: %d\r\n\r\n%s", testKey, len(body), body)
	r.money(1, 0)
	if up.Stats().InFlight != 0 {
		eventually(t, func() error {
			if up.Stats().InFlight != 0 {
				return errors.New("still running")
			}
			return nil
		})
	}
	if o := r.lastSettled(); o.EndReason != "client_gone" {
		t.Fatalf("%+v", o)
	}
}

// A write deadline of a stream must not outlive it on the connection.
func TestDeadlineIsTakenAway(t *testing.T) {
	r := newRig(t)
	r.cfg.Relay.WriteTimeout = 50 * time.Millisecond
	r.upstream(1, "")
	r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	<-time.After(120 * time.Millisecond)
	r.post("/v1/chat/completions", chatBody).want(200)
	r.money(2, 0)
}

func TestJSONAnswerToStream(t *testing.T) {
	r := newRig(t)
	r.upstream(1, "", func(c *core.Channel) { c.ParamOverride = `{"stream":false}` })
	p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	if !strings.HasPrefix(p.Header.Get("Content-Type"), "application/json") || p.json()["usage"] == nil {
		t.Fatal(p.Header, p.body)
	}
	r.money(1, 0)
	if o := r.lastSettled(); o.Estimated || o.Stream {
		t.Fatalf("%+v", o)
	}
}

func TestStreamMemory(t *testing.T) {
	r := newRig(t)
	r.upstream(1, `{"endless":true,"chunk_delay_ms":20}`)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var bodies []io.ReadCloser
	const n = 100
	for range n {
		res := r.open("/v1/chat/completions", chatWith(`"stream":true`), func(q *http.Request) { *q = *q.WithContext(ctx) })
		if _, err := frames(res.Body)(); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, res.Body)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Client, gateway and upstream share the process.
	if per := (int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)) / n; per > 300<<10 {
		t.Errorf("%d KB for a stream, both ends included", per>>10)
	}
	cancel()
	for _, b := range bodies {
		b.Close()
	}
	r.money(n, 0)
}

func TestProduced(t *testing.T) {
	tap := &stubTap{usage: llm.Usage{Input: 5, Output: 1}, ok: true, est: llm.Usage{Input: 9, Output: 40}}
	if u := produced(tap); u.Input != 5 || u.Output != 40 {
		t.Fatalf("%+v", u)
	}
	tap.ok = false
	if u := produced(tap); u.Input != 9 || u.Output != 40 {
		t.Fatalf("%+v", u)
	}
}

type stubTap struct {
	usage, est llm.Usage
	ok         bool
}

func (s *stubTap) Event([]byte) llm.Verdict { return llm.Pass }
func (s *stubTap) Body(string, []byte)      {}
func (s *stubTap) Usage() (llm.Usage, bool) { return s.usage, s.ok }
func (s *stubTap) Estimate() llm.Usage      { return s.est }
func (s *stubTap) Complete() bool           { return true }
