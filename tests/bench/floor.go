package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"
)

// floor is the least that a gateway in Go can do: check a key, read model and
// usage, count quota in memory, note a log row. No database, no plug-in.
type floor struct {
	upstream  string
	transport *http.Transport
	keys      map[string]*atomic.Int64

	mu  sync.Mutex
	log []floorRow
}

type floorRow struct {
	at     time.Time
	model  string
	tokens int64
	took   time.Duration
}

// benchKey is the key of the floor; gateways make their own.
const benchKey = "sk-bench"

func runFloor(addr, upstream string) error {
	f := &floor{upstream: upstream, keys: map[string]*atomic.Int64{benchKey: {}},
		transport: &http.Transport{MaxIdleConns: 2000, MaxIdleConnsPerHost: 2000, DisableCompression: true}}
	f.keys[benchKey].Store(1 << 60)
	srv := &http.Server{Addr: addr, Handler: f, ReadHeaderTimeout: 5 * time.Second}
	return srv.ListenAndServe()
}

func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	quota := f.keys[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if quota == nil || quota.Load() <= 0 {
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 128<<20))
	if err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	model, stream := gjson.GetBytes(body, "model").String(), gjson.GetBytes(body, "stream").Bool()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, f.upstream+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		http.Error(w, "request", http.StatusInternalServerError)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer upstream")
	resp, err := f.transport.RoundTrip(req)
	if err != nil {
		http.Error(w, "upstream", http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	var tokens int64
	if stream {
		tokens = copyStream(w, resp.Body)
	} else {
		out, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		tokens = gjson.GetBytes(out, "usage.total_tokens").Int()
		_, _ = w.Write(out)
	}
	quota.Add(-tokens)
	f.note(floorRow{at: start, model: model, tokens: tokens, took: time.Since(start)})
}

func copyStream(w http.ResponseWriter, r io.Reader) (tokens int64) {
	rc := http.NewResponseController(w)
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if i := bytes.Index(buf[:n], []byte(`"usage":{`)); i >= 0 {
				tokens = gjson.GetBytes(buf[i+len(`"usage":`):n], "total_tokens").Int()
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return tokens
			}
			_ = rc.Flush()
		}
		if err != nil {
			return tokens
		}
	}
}

func (f *floor) note(row floorRow) {
	f.mu.Lock()
	f.log = append(f.log, row)
	if len(f.log) >= 500 {
		f.log = f.log[:0]
	}
	f.mu.Unlock()
}
