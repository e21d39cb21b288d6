package fault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

// The model "unit" costs a unit a token both ways and its requests are billed 200:
// 100 in, 100 out. PreConsumedQuota 100 makes the reservation 100 + max_tokens.
const unitPrice = 200

func unitBody(maxTokens int) []byte {
	return fmt.Appendf(nil, `{"model":"unit","messages":[{"role":"user","content":"Hello"}],"max_tokens":%d,"fake":{"usage":{"prompt_tokens":100,"completion_tokens":100,"total_tokens":200},"first_byte_delay_ms":100}}`, maxTokens)
}

type answer struct {
	status     int
	code       string
	body       string
	retryAfter string
}

func post(url, key, path string, body []byte) (answer, error) {
	req, err := http.NewRequest(http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	var e struct {
		Error struct {
			Code any `json:"code"`
		} `json:"error"`
	}
	_ = json.Unmarshal(b, &e)
	return answer{resp.StatusCode, fmt.Sprint(e.Error.Code), string(b), resp.Header.Get("Retry-After")}, err
}

// burst sends n requests at once and counts the answers by status.
func burst(t *testing.T, s *site, key string, n int, body []byte) (ok, refused int64) {
	t.Helper()
	var okN, refusedN atomic.Int64
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for range n {
		wg.Go(func() {
			<-gate
			a, err := post(s.node.URL, key, "/v1/chat/completions", body)
			switch {
			case err != nil:
				t.Error(err)
			case a.status == http.StatusOK:
				okN.Add(1)
			case a.status == http.StatusForbidden && (a.code == "insufficient_user_quota" || a.code == "pre_consume_token_quota_failed"):
				refusedN.Add(1)
			default:
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
	close(gate)
	wg.Wait()
	return okN.Load(), refusedN.Load()
}

// Both the user's and the token's balance are tried as the one that is short.
func TestParallelRequestsOnAShortBalance(t *testing.T) {
	harness.EachDatabase(t, func(t *testing.T, env map[string]string) {
		s := newSite(t, env)
		for _, short := range []string{"user", "token"} {
			account := func(name string) (key string, left func() (quota, used int64)) {
				user, token := int64(1_000_000), int64(1_000_000)
				if short == "user" {
					user = 10 * unitPrice
				} else {
					token = 10 * unitPrice
				}
				return s.account(name+short, user, token, short)
			}
			t.Run(short+": reserve = price", func(t *testing.T) {
				key, left := account("exact")
				ok, refused := burst(t, s, key, 200, unitBody(100))
				if ok != 10 || refused != 190 {
					t.Errorf("%d answered, %d refused; want 10 and 190", ok, refused)
				}
				if quota, used := left(); quota != 0 || used != 10*unitPrice {
					t.Errorf("left %d, used %d", quota, used)
				}
			})
			t.Run(short+": reserve = 5 x price", func(t *testing.T) {
				key, left := account("wide")
				ok, refused := burst(t, s, key, 200, unitBody(900))
				if ok < 2 || ok+refused != 200 {
					t.Errorf("%d answered in parallel, %d refused; want at least 2", ok, refused)
				}
				for {
					a, err := post(s.node.URL, key, "/v1/chat/completions", unitBody(900))
					if err != nil {
						t.Fatal(err)
					}
					if a.status != http.StatusOK {
						if a.status != http.StatusForbidden || !strings.Contains(a.code, "quota") {
							t.Errorf("status %d: %s", a.status, a.body)
						}
						break
					}
					if ok++; ok > 10 {
						break
					}
				}
				if quota, used := left(); ok != 10 || quota != 0 || used != 10*unitPrice {
					t.Errorf("%d answered in all, left %d, used %d; want 10, 0, %d", ok, quota, used, 10*unitPrice)
				}
			})
		}
	})
}
