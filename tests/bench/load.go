package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// target is where load goes.
type target struct {
	url, key string
	client   *http.Client
	refused  atomic.Int64 // 503: the database did not answer in the time that a reservation has
}

func newTarget(url, key string) *target {
	return &target{url: url + "/v1/chat/completions", key: key, client: &http.Client{Transport: &http.Transport{MaxIdleConns: 2000, MaxIdleConnsPerHost: 2000, DisableCompression: true}}}
}

func (t *target) post(ctx context.Context, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+t.key)
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			return nil, fmt.Errorf("%w: %s", errRefused, b)
		}
		return nil, fmt.Errorf("status %d: %s", resp.StatusCode, b)
	}
	return resp, nil
}

// errRefused is a 503, which the gateway may give and the table shows.
var errRefused = errors.New("refused")

func (t *target) once(ctx context.Context, body []byte) error {
	resp, err := t.post(ctx, body)
	if errors.Is(err, errRefused) {
		t.refused.Add(1)
		return err
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// saturate keeps conns requests under way for length; it returns how many ended.
func (t *target) saturate(conns int, length time.Duration, body []byte) (int64, error) {
	var n atomic.Int64
	var first atomic.Pointer[error]
	end := time.Now().Add(length)
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			for time.Now().Before(end) && first.Load() == nil {
				switch err := t.once(context.Background(), body); {
				case err == nil:
					n.Add(1)
				case !errors.Is(err, errRefused):
					first.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return 0, *err
	}
	return n.Load(), nil
}

// paced sends perSecond requests a second, each at its time whether or not the
// last one ended, and returns their latencies.
func (t *target) paced(perSecond int, length time.Duration, body []byte) ([]time.Duration, error) {
	total := int(length.Seconds() * float64(perSecond))
	out := make([]time.Duration, total)
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for i := range total {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(at))
		wg.Go(func() {
			begin := time.Now()
			if err := t.once(context.Background(), body); err != nil && !errors.Is(err, errRefused) {
				first.CompareAndSwap(nil, &err)
			}
			out[i] = time.Since(begin)
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return nil, *err
	}
	return out, nil
}

// streams runs n streams at once and returns how long each chunk was under way
// and how long each stream took. during, if any, is called in the middle.
func (t *target) streams(n, chunks int, delay time.Duration, during func()) (transit, took []time.Duration, err error) {
	body := streamBody(chunks, delay)
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * delay / time.Duration(n)) // spread over one interval
			begin := time.Now()
			mine, err := t.readStream(body, chunks)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, errRefused) {
				t.refused.Add(1)
				return
			}
			if err != nil && first == nil {
				first = err
			}
			transit = append(transit, mine...)
			took = append(took, time.Since(begin))
		})
	}
	if during != nil {
		time.Sleep(time.Duration(chunks) * delay / 2)
		during()
	}
	wg.Wait()
	return transit, took, first
}

func (t *target) readStream(body []byte, chunks int) ([]time.Duration, error) {
	resp, err := t.post(context.Background(), body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out := make([]time.Duration, 0, chunks)
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		line := sc.Bytes()
		now := time.Now().UnixNano()
		if i := bytes.Index(line, []byte(`"t":`)); i > 0 {
			rest := line[i+4:]
			var v int64
			for _, c := range rest {
				if c < '0' || c > '9' {
					break
				}
				v = v*10 + int64(c-'0')
			}
			out = append(out, time.Duration(now-v))
		}
	}
	if len(out) != chunks {
		return nil, fmt.Errorf("a stream of %d chunks gave %d: %v", chunks, len(out), sc.Err())
	}
	return out, sc.Err()
}

func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Clone(d)
	slices.Sort(s)
	return s[min(len(s)-1, int(p*float64(len(s))))]
}

func chatBody(promptBytes int) []byte {
	return []byte(`{"model":"bench","messages":[{"role":"system","content":"You are terse."},{"role":"user","content":"` +
		strings.Repeat("All work and no play makes Jack a dull boy. ", promptBytes/44) + `"}],"max_tokens":100,"temperature":0.2}`)
}

func streamBody(chunks int, delay time.Duration) []byte {
	return fmt.Appendf(nil, `{"model":"bench","stream":true,"stream_options":{"include_usage":true},"chunks":%d,"delay_ms":%d,"max_tokens":100,"messages":[{"role":"user","content":"Tell me a long story."}]}`, chunks, delay.Milliseconds())
}
