package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// The shapes that the mock upstream sends. The time stamp lets the load
// generator tell how long a chunk was under way.
const (
	answer    = `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"All work and no play makes a gateway dull."},"finish_reason":"stop"}],"usage":{"prompt_tokens":200,"completion_tokens":10,"total_tokens":210}}`
	chunk     = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","t":%d,"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}` + "\n\n"
	lastChunk = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usageLine = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[],"usage":{"prompt_tokens":200,"completion_tokens":100,"total_tokens":300}}` + "\n\ndata: [DONE]\n\n"
)

// runUpstream serves a chat upstream: unstreamed at once, streamed in as many
// chunks and with the delay that the body asks for.
func runUpstream(addr string) error {
	srv := &http.Server{Addr: addr, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(upstream)}
	return srv.ListenAndServe()
}

func upstream(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if !bytes.Contains(body, []byte(`"stream":true`)) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
		return
	}
	chunks, delay := number(body, `"chunks":`, 100), time.Duration(number(body, `"delay_ms":`, 0))*time.Millisecond
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	start := time.Now()
	for i := range chunks {
		if delay > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i+1) * delay)))
		}
		if _, err := fmt.Fprintf(w, chunk, time.Now().UnixNano()); err != nil {
			return
		}
		_ = rc.Flush()
	}
	_, _ = io.WriteString(w, lastChunk)
	_, _ = io.WriteString(w, usageLine)
}

func number(body []byte, key string, fallback int) int {
	i := bytes.Index(body, []byte(key))
	if i < 0 {
		return fallback
	}
	rest := body[i+len(key):]
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(string(rest[:n]))
	if err != nil {
		return fallback
	}
	return v
}
