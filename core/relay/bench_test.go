package relay

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/provider/fakellm"
)

// nullLedger does nothing with money.
type nullLedger struct{}

func (nullLedger) Reserve(_ context.Context, r core.ReserveRequest) (*core.Reservation, error) {
	return &core.Reservation{Request: r}, nil
}
func (nullLedger) Extend(*core.Reservation, llm.Usage) {}
func (nullLedger) Settle(context.Context, *core.Reservation, core.Outcome) core.Charge {
	return core.Charge{}
}
func (nullLedger) Refund(context.Context, *core.Reservation, core.Outcome) {}

func benchRig(b *testing.B, fake string) *rig {
	r := newRig(b)
	r.relay.o.Ledger = nullLedger{}
	r.relay.o.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil)) // at info, as served
	up := httptest.NewServer(fakellm.New(fakellm.Options{Fake: fake, Trust: true}))
	b.Cleanup(up.Close)
	r.channel(1, up.URL)
	return r
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// floor is the least that a gateway in Go can do: check a key, read model and
// usage, send, copy. What the relay costs is told as a multiple of it.
func floor(upstream string) http.HandlerFunc {
	tr := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sk-"+testKey {
			http.Error(w, "key", http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 128<<20))
		if err != nil {
			return
		}
		_ = gjson.GetBytes(body, "model").String()
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodPost, upstream+r.URL.Path, bytes.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer upstream")
		res, err := tr.RoundTrip(req)
		if err != nil {
			return
		}
		defer res.Body.Close()
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		if !gjson.GetBytes(body, "stream").Bool() {
			out, _ := io.ReadAll(res.Body)
			_ = gjson.GetBytes(out, "usage.total_tokens").Int()
			_, _ = w.Write(out)
			return
		}
		buf, rc := make([]byte, 4096), http.NewResponseController(w)
		for {
			n, err := res.Body.Read(buf)
			if n > 0 {
				_ = bytes.Index(buf[:n], []byte(`"usage":{`))
				_, _ = w.Write(buf[:n])
				_ = rc.Flush()
			}
			if err != nil {
				return
			}
		}
	}
}

// run sends the body on one connection in turn through the relay, through the
// floor, and to the upstream itself, and tells the CPU time that each adds.
func (r *rig) run(b *testing.B, body string) {
	upstream := r.rows.Channels[1].BaseURL
	fl := httptest.NewServer(floor(upstream))
	b.Cleanup(fl.Close)
	send := func(url string) {
		req, _ := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer sk-"+testKey)
		res, err := r.client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			b.Fatal(res.Status)
		}
	}
	urls := []string{upstream, fl.URL, r.url}
	var took [3]time.Duration
	for range 50 {
		for _, u := range urls {
			send(u)
		}
	}
	b.ResetTimer()
	const batch = 50
	for range (b.N + batch - 1) / batch {
		for i, u := range urls {
			began := cpu()
			for range batch {
				send(u)
			}
			took[i] += cpu() - began
		}
	}
	n := float64((b.N + batch - 1) / batch * batch)
	us := func(i int) float64 { return (took[i] - took[0]).Seconds() * 1e6 / n }
	b.ReportMetric(us(1), "floor-µs")
	b.ReportMetric(us(2), "relay-µs")
	b.ReportMetric(us(2)/us(1), "x-floor")
}

func BenchmarkUnary1KB(b *testing.B) {
	benchRig(b, "").run(b, chatWith(`"x":"`+strings.Repeat("a", 900)+`"`))
}

func BenchmarkUnary100KB(b *testing.B) {
	benchRig(b, "").run(b, strings.Replace(chatBody, "hi", strings.Repeat("hello you ", 10_000), 1))
}

func BenchmarkStream100(b *testing.B) {
	benchRig(b, `{"chunks":100}`).run(b, chatWith(`"stream":true`))
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int64{10, 10_000} {
		b.Run(time.Duration(n).String(), func(b *testing.B) {
			r := newRig(b)
			for id := range n {
				r.rows.Channels[id+1] = &core.Channel{ID: id + 1, Type: 1, Status: core.ChannelEnabled, BaseURL: "http://127.0.0.1:1", Models: []string{"m"}, Groups: []string{"default"}, Priority: id % 3}
			}
			r.rebuild()
			x := &exchange{rl: r.relay, op: llm.OpChat, cfg: r.cfg, snap: r.snap.Load(), cred: r.tokens.keys[testKey], req: &llm.Request{Model: "m"}}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				p := picker{x: x, groups: groupsOf(x.snap, x.cred, "m")}
				if _, ok, err := p.next(2); !ok {
					b.Fatal(err)
				}
			}
		})
	}
}

// The relay alone: no sockets, an upstream in memory.
func BenchmarkServe(b *testing.B) {
	r := benchRig(b, "")
	body := chatWith(`"x":"` + strings.Repeat("a", 900) + `"`)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		req := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer sk-"+testKey)
		r.relay.Serve(discard{}, req, llm.OpChat, "")
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
