package relay

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

func packed(t testing.TB, coding, text string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		w, _ = zstd.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "raw":
		w, _ = flate.NewWriter(&b, 6)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestContentEncodings(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, "")
	r.cfg.Server.MaxRequestBody = 64 << 10
	for _, c := range []struct {
		name, coding, body string
		status             int
		has                string
	}{
		{"gzip", "gzip", packed(t, "gzip", chatBody), 200, ""},
		{"br", "br", packed(t, "br", chatBody), 200, ""},
		{"zstd", "zstd", packed(t, "zstd", chatBody), 200, ""},
		{"deflate", "deflate", packed(t, "deflate", chatBody), 200, ""},
		{"raw deflate", "Deflate", packed(t, "raw", chatBody), 200, ""},
		{"identity", "identity", chatBody, 200, ""},
		{"unknown", "lzma", chatBody, 415, "unsupported_media_type"},
		{"not gzip", "gzip", chatBody, 400, "bad_request_body"},
		{"not br", "br", chatBody, 400, "bad_request_body"},
		{"not zstd", "zstd", chatBody, 400, "bad_request_body"},
		{"cut gzip", "gzip", packed(t, "gzip", chatBody)[:30], 400, "bad_request_body"},
		{"gzip bomb", "gzip", packed(t, "gzip", strings.Repeat(" ", 10<<20)), 413, "read_request_body_failed"},
		{"br bomb", "br", packed(t, "br", strings.Repeat(" ", 10<<20)), 413, "read_request_body_failed"},
		{"zstd bomb", "zstd", packed(t, "zstd", strings.Repeat(" ", 10<<20)), 413, "read_request_body_failed"},
		{"deflate bomb", "deflate", packed(t, "deflate", strings.Repeat(" ", 10<<20)), 413, "read_request_body_failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.post("/v1/chat/completions", c.body, header("Content-Encoding", c.coding))
			p.t = t
			p.want(c.status).has(c.has)
		})
	}
	for _, q := range up.Requests() {
		if string(q.Body) != chatBody || q.Header.Get("Content-Encoding") != "" {
			t.Fatalf("%q %v", q.Body, q.Header)
		}
	}
	if used := r.relay.budget.used.Load(); used != 0 {
		t.Fatalf("budget %d", used)
	}
}

// unsized hides the length of a body.
func unsized(r *http.Request) {
	r.Body = io.NopCloser(io.MultiReader(r.Body))
	r.ContentLength = -1
	r.GetBody = nil
}

func TestBodyLimits(t *testing.T) {
	r := newRig(t)
	r.upstream(1, "")
	r.cfg.Server.MaxRequestBody = 100 << 10
	fits := chatWith(`"x":"` + strings.Repeat("a", 90<<10) + `"`)
	over := chatWith(`"x":"` + strings.Repeat("a", 110<<10) + `"`)
	r.post("/v1/chat/completions", fits).want(200)
	r.post("/v1/chat/completions", fits, unsized).want(200)
	r.post("/v1/chat/completions", over).want(413).has("read_request_body_failed")
	r.post("/v1/chat/completions", over, unsized).want(413)
	r.post("/v1/chat/completions", "").want(400)
	r.post("/v1/chat/completions", "{").want(400).has("invalid_request")

	r.cfg.Server.BodyBudget = 50 << 10
	p := r.post("/v1/chat/completions", fits).want(503).has("system_overloaded")
	if p.Header.Get("Retry-After") == "" {
		t.Fatal(p.Header)
	}
	r.post("/v1/chat/completions", fits, unsized).want(503)
	r.post("/v1/chat/completions", chatBody).want(200)
	if used := r.relay.budget.used.Load(); used != 0 {
		t.Fatalf("budget %d", used)
	}
	r.money(3, 0)
}

func TestBufferClasses(t *testing.T) {
	var p buffers
	for _, n := range []int64{0, 1, 100, pooledMin - 1, pooledMin, pooledMin + 1, 100 << 10, pooledMax, pooledMax + 1} {
		b := p.get(n)
		if int64(cap(b)) < n || int64(cap(b)) != bufferSize(n) || len(b) != 0 {
			t.Errorf("%d: len %d cap %d", n, len(b), cap(b))
		}
		p.put(append(b, 1))
		if b := p.get(n); int64(cap(b)) < n || len(b) != 0 {
			t.Errorf("%d again: len %d cap %d", n, len(b), cap(b))
		}
	}
}

// Whatever the encoding, a client that leaves is seen: net/http looks for it only
// behind the very end of the body.
func TestClientLeavesAfterEncodedBody(t *testing.T) {
	for _, coding := range []string{"gzip", "br", "zstd", "deflate"} {
		t.Run(coding, func(t *testing.T) {
			r := newRig(t)
			up := r.upstream(1, `{"hang":true}`)
			conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			body := packed(t, coding, chatBody)
			_, _ = fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", testKey, coding, len(body), body)
			running := func(n int64) func() error {
				return func() error {
					if up.Stats().InFlight != n {
						return fmt.Errorf("%d calls under way", up.Stats().InFlight)
					}
					return nil
				}
			}
			eventually(t, running(1))
			conn.Close()
			eventually(t, running(0))
			r.money(1, 0)
		})
	}
}

type slowBody struct{ step func() (int, error) }

func (s slowBody) Read([]byte) (int, error) { return s.step() }

// deadlines is a ResponseWriter that takes read deadlines.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.set = append(d.set, t); return nil }

func TestPace(t *testing.T) {
	now := time.Now()
	d := &deadlines{}
	p := newPace(slowBody{func() (int, error) { return 10 * bodyRate, nil }}, http.NewResponseController(d), now.Add(-25*time.Second))
	if _, err := p.Read(nil); err != nil {
		t.Fatal(err)
	}
	// 10 s worth of bytes came: the deadline moves by that.
	if len(d.set) != 2 || d.set[1].Sub(d.set[0]) != 10*time.Second {
		t.Fatal(d.set)
	}
	p.whole()
	if !d.set[2].IsZero() {
		t.Fatal(d.set)
	}
	p.src = slowBody{func() (int, error) { return 0, os.ErrDeadlineExceeded }}
	if _, err := p.Read(nil); err == nil || !p.late {
		t.Fatal(err)
	}
	if e := bodyError(os.ErrDeadlineExceeded, "", p); e.Status != 408 {
		t.Fatal(e)
	}
}
