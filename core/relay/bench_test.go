package relay

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

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
	r.relay.o.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil))
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

// run sends the body again and again on one connection. cpu-µs/op is the CPU of
// client, gateway and upstream together; direct-µs is that of client and upstream
// without the gateway.
func (r *rig) run(b *testing.B, body string) {
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
	for range 50 {
		send(r.url)
		send(r.rows.Channels[1].BaseURL)
	}
	b.ReportAllocs()
	b.ResetTimer()
	c0 := cpu()
	for range b.N {
		send(r.url)
	}
	c1 := cpu()
	b.StopTimer()
	for range b.N {
		send(r.rows.Channels[1].BaseURL)
	}
	c2 := cpu()
	through, direct := (c1-c0).Seconds()*1e6/float64(b.N), (c2-c1).Seconds()*1e6/float64(b.N)
	b.ReportMetric(through-direct, "gateway-µs/op")
	b.ReportMetric(direct, "direct-µs/op")
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
