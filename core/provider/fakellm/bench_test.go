package fakellm

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}

func benchmark(b *testing.B, body string) {
	s := New(Options{})
	w := &discard{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("POST", "/v1/chat/completions", nil)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", "application/json")
		s.ServeHTTP(w, r)
	}
}

func BenchmarkChat1KB(b *testing.B) {
	benchmark(b, `{"model":"m","messages":[{"role":"user","content":"`+strings.Repeat("word ", 200)+`"}]}`)
}

func BenchmarkChat100KB(b *testing.B) {
	benchmark(b, `{"model":"m","messages":[{"role":"user","content":"`+strings.Repeat("word ", 20000)+`"}]}`)
}

func BenchmarkStream100(b *testing.B) {
	benchmark(b, `{"model":"m","stream":true,"fake":{"chunks":100},"messages":[{"role":"user","content":"hi"}]}`)
}
