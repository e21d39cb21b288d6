package relay

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"testing"

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
