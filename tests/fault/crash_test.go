package fault

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

// A node is killed in the middle of streams. Its next start settles what it left
// by policy: user + token + open reservations + settled stays what it was.
func TestKilledInTheMiddleOfStreams(t *testing.T) {
	harness.EachDatabase(t, func(t *testing.T, env map[string]string) {
		s := newSite(t, env)
		const start = int64(1_000_000)
		key, _ := s.account("streamer", start, start, "user")
		body := `{"model":"unit","stream":true,"messages":[{"role":"user","content":"Tell me"}],"max_tokens":5000,"fake":{"chunks":2000,"chunk_delay_ms":10}}`
		const streams = 5
		for range streams {
			openStream(t, s.node.URL, key, body, 30)
		}
		// Longer than a progress note's interval, so that output is in the notes.
		<-time.After(1500 * time.Millisecond)
		s.node.Kill()

		s.node = s.node.Restart()
		s.root = harness.NewAPI(t, s.node.URL)
		s.root.Login("root", harness.RootPassword)
		api := harness.NewAPI(t, s.node.URL)
		api.Login("streamer", "account-password-1")
		var self struct{ Quota, UsedQuota int64 }
		var token struct{ RemainQuota, UsedQuota int64 }
		read := func() {
			var u struct {
				Quota     int64 `json:"quota"`
				UsedQuota int64 `json:"used_quota"`
			}
			s.decode(api.Must(http.MethodGet, "/api/user/self", nil), &u)
			self.Quota, self.UsedQuota = u.Quota, u.UsedQuota
			var page struct {
				Items []struct {
					RemainQuota int64 `json:"remain_quota"`
					UsedQuota   int64 `json:"used_quota"`
				} `json:"items"`
			}
			s.decode(api.Must(http.MethodGet, "/api/token/", nil), &page)
			token.RemainQuota, token.UsedQuota = page.Items[0].RemainQuota, page.Items[0].UsedQuota
		}
		eventually(t, 20*time.Second, "the reservations are settled", func() bool {
			read()
			return self.Quota+self.UsedQuota == start && token.RemainQuota+token.UsedQuota == start && self.UsedQuota > 0
		})
		if self.UsedQuota != token.UsedQuota {
			t.Errorf("user used %d, token used %d", self.UsedQuota, token.UsedQuota)
		}
		// The prompt is under ten tokens; a second of output is far more.
		if self.UsedQuota <= 20*streams {
			t.Errorf("used %d: the progress notes were not counted", self.UsedQuota)
		}
		if self.UsedQuota >= 5000*streams {
			t.Errorf("used %d: the whole reservations were kept", self.UsedQuota)
		}
		var logged int64
		eventually(t, 10*time.Second, "the log rows are there", func() bool {
			var page struct {
				Items []struct {
					Quota int64  `json:"quota"`
					Other string `json:"other"`
				} `json:"items"`
			}
			s.decode(s.root.Must(http.MethodGet, "/api/log/?username=streamer&type=2", nil), &page)
			logged = 0
			for _, row := range page.Items {
				if !strings.Contains(row.Other, `"estimated":true`) {
					t.Fatalf("a row of a crash is not flagged: %s", row.Other)
				}
				logged += row.Quota
			}
			return len(page.Items) == streams
		})
		if logged != self.UsedQuota {
			t.Errorf("logged %d, used %d", logged, self.UsedQuota)
		}

		// A second restart finds nothing to settle.
		s.node.Kill()
		s.node = s.node.Restart()
		api = harness.NewAPI(t, s.node.URL)
		api.Login("streamer", "account-password-1")
		before := self
		read()
		if self != before {
			t.Errorf("settled twice: %+v, then %+v", before, self)
		}
	})
}

// openStream begins a stream and reads some lines of it; the test's end closes it.
func openStream(t *testing.T, url, key, body string, lines int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/chat/completions", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	sc := bufio.NewScanner(resp.Body)
	for range lines {
		if !sc.Scan() {
			t.Fatalf("the stream ended early: %v", sc.Err())
		}
	}
}

func eventually(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, limit)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// A clean stop in the middle of a stream lets it end and flushes the log.
func TestStopLetsStreamsEnd(t *testing.T) {
	s := newSite(t, map[string]string{"SLUICE_BILLING__LOG_FLUSH_INTERVAL": "1h"})
	key, _ := s.account("streamer", 1_000_000, 1_000_000, "user")
	body := `{"model":"unit","stream":true,"messages":[{"role":"user","content":"Tell me"}],"max_tokens":500,"fake":{"chunks":100,"chunk_delay_ms":10,"usage":{"prompt_tokens":100,"completion_tokens":100,"total_tokens":200}}}`
	type result struct {
		a   answer
		err error
	}
	done := make(chan result, 1)
	go func() {
		a, err := post(s.node.URL, key, "/v1/chat/completions", []byte(body))
		done <- result{a, err}
	}()
	eventually(t, 10*time.Second, "the stream runs", func() bool { return s.fake.Stats().InFlight == 1 })
	if err := s.node.Stop(30 * time.Second); err != nil {
		t.Fatalf("unclean stop: %v\n%s", err, s.node.Log)
	}
	r := <-done
	if r.err != nil || r.a.status != http.StatusOK || !strings.Contains(r.a.body, "[DONE]") {
		t.Fatalf("the stream was cut by a clean stop: %v %d", r.err, r.a.status)
	}
	n := s.node.Restart()
	root := harness.NewAPI(t, n.URL)
	root.Login("root", harness.RootPassword)
	var page struct {
		Items []struct {
			Quota int64 `json:"quota"`
		} `json:"items"`
	}
	s.decode(json.RawMessage(root.Must(http.MethodGet, "/api/log/?username=streamer&type=2", nil)), &page)
	if len(page.Items) != 1 || page.Items[0].Quota != unitPrice {
		t.Errorf("log after a clean stop: %s", fmt.Sprint(page.Items))
	}
}
