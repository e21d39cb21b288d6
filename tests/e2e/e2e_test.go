// Package e2e drives a node as an operator's scripts and clients do: through
// HTTP alone, on SQLite and on MariaDB.
package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core/provider/fakellm"
	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// site is a node that was set up for the billing cases.
type site struct {
	t        *testing.T
	node     *harness.Node
	root     *harness.API
	vip      *harness.API
	channels map[string]int64
	fake     *fakellm.Server
}

func newSite(t *testing.T, env map[string]string) *site {
	t.Helper()
	fake := fakellm.New(fakellm.Options{})
	up := httptest.NewServer(fake)
	t.Cleanup(up.Close)
	env["SLUICE_BILLING__LOG_FLUSH_INTERVAL"] = "20ms"
	n := harness.StartNode(t, harness.NodeOptions{Env: env})
	s := &site{t: t, node: n, root: harness.NewAPI(t, n.URL), channels: map[string]int64{}, fake: fake}
	s.root.Setup()
	for k, v := range priceOptions {
		s.root.Option(k, v)
	}
	for name, ch := range map[string]map[string]any{
		"openai": {"type": 1, "models": "plain,half,cachy,vision,audio,tiny,free,big,third,embed,draw,stt,moderate,old,percall,freecall,speak,paint,dall-e-3"},
		"claude": {"type": 14, "models": "claude-x,claude-y"},
		"gemini": {"type": 24, "models": "gemini-x,embed-2"},
		"jina":   {"type": 38, "models": "rank"},
	} {
		ch["name"], ch["base_url"], ch["group"] = name, up.URL, "default,vip,gold"
		s.channels[name] = s.root.Channel(ch)
	}
	s.root.Must(http.MethodPost, "/api/user/", map[string]any{"username": "vipuser", "password": "vip-password-1", "display_name": "Vip", "role": 1})
	id := s.userID("vipuser")
	s.root.Must(http.MethodPut, "/api/user/", map[string]any{"id": id, "username": "vipuser", "display_name": "Vip", "group": "vip"})
	s.root.Must(http.MethodPost, "/api/user/manage", map[string]any{"id": id, "action": "add_quota", "mode": "override", "value": 1_000_000_000})
	s.root.Must(http.MethodPost, "/api/user/manage", map[string]any{"id": s.userID("root"), "action": "add_quota", "mode": "override", "value": 100_000_000_000})
	s.vip = harness.NewAPI(t, n.URL)
	s.vip.Login("vipuser", "vip-password-1")
	return s
}

func (s *site) userID(name string) int64 {
	s.t.Helper()
	var page struct {
		Items []struct {
			ID       int64  `json:"id"`
			Username string `json:"username"`
		} `json:"items"`
	}
	decode(s.t, s.root.Must(http.MethodGet, "/api/user/search?keyword="+name, nil), &page)
	for _, u := range page.Items {
		if u.Username == name {
			return u.ID
		}
	}
	s.t.Fatalf("no user %q", name)
	return 0
}

func decode(t *testing.T, raw []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
}

// balances are what a case may move.
type balances struct {
	User struct {
		Quota        int64 `json:"quota"`
		UsedQuota    int64 `json:"used_quota"`
		RequestCount int64 `json:"request_count"`
	}
	Token struct {
		RemainQuota int64 `json:"remain_quota"`
		UsedQuota   int64 `json:"used_quota"`
	}
}

func (s *site) balances(api *harness.API, token int64) (b balances) {
	s.t.Helper()
	decode(s.t, api.Must(http.MethodGet, "/api/user/self", nil), &b.User)
	decode(s.t, api.Must(http.MethodGet, fmt.Sprintf("/api/token/%d", token), nil), &b.Token)
	return b
}

// logRow is the part of a usage log row that the cases compare.
type logRow struct {
	Type             int    `json:"type"`
	Quota            int64  `json:"quota"`
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"completion_tokens"`
	ModelName        string `json:"model_name"`
	TokenName        string `json:"token_name"`
	Channel          int64  `json:"channel"`
	Group            string `json:"group"`
	IsStream         bool   `json:"is_stream"`
	RequestID        string `json:"request_id"`
	Other            string `json:"other"`
}

// log waits for the row of a request: rows are written in batches.
func (s *site) log(requestID string) logRow {
	s.t.Helper()
	end := time.Now().Add(10 * time.Second)
	for {
		var page struct {
			Items []logRow `json:"items"`
		}
		decode(s.t, s.root.Must(http.MethodGet, "/api/log/?request_id="+requestID, nil), &page)
		if len(page.Items) == 1 {
			return page.Items[0]
		}
		if len(page.Items) > 1 {
			s.t.Fatalf("%d log rows for one request", len(page.Items))
		}
		if time.Now().After(end) {
			s.t.Fatalf("no log row for request %s", requestID)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func multipartBody(t *testing.T, fields string) (io.Reader, string) {
	t.Helper()
	var m map[string]string
	decode(t, []byte(fields), &m)
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for k, v := range m {
		if err := w.WriteField(k, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "image"} {
		f, err := w.CreateFormFile(name, name+".bin")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write(bytes.Repeat([]byte{0, 1, 2, 0xff}, 1000))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b, w.FormDataContentType()
}

func (s *site) send(c billingCase, key string) (requestID string) {
	s.t.Helper()
	var body io.Reader = strings.NewReader(c.body)
	contentType := "application/json"
	if c.form {
		body, contentType = multipartBody(s.t, c.body)
	}
	req, err := http.NewRequest(http.MethodPost, s.node.URL+c.path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	switch {
	case strings.HasPrefix(c.path, "/v1/messages"):
		req.Header.Set("x-api-key", key)
		req.Header.Set("anthropic-version", "2023-06-01")
	case strings.HasPrefix(c.path, "/v1beta/"):
		req.Header.Set("x-goog-api-key", key)
	default:
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: status %d, %v: %s", c.path, resp.StatusCode, err, out)
	}
	if bytes.Contains(out, []byte(`"error":{`)) {
		s.t.Fatalf("%s: %s", c.path, out)
	}
	return resp.Header.Get("X-Request-Id")
}

func TestBilling(t *testing.T) {
	if len(billingCases) < 40 {
		t.Fatalf("%d cases", len(billingCases))
	}
	harness.EachDatabase(t, func(t *testing.T, env map[string]string) {
		s := newSite(t, env)
		type tokenOf struct{ user, group string }
		tokens := map[tokenOf]struct {
			id  int64
			key string
		}{}
		for _, c := range billingCases {
			t.Run(c.name, func(t *testing.T) {
				s := *s
				s.t = t
				api := s.root
				if c.user == "vip" {
					api = s.vip
				}
				tok, ok := tokens[tokenOf{c.user, c.group}]
				if !ok {
					tok.id, tok.key = api.Token(map[string]any{"name": "t-" + c.user + c.group, "group": c.group, "unlimited_quota": false, "remain_quota": int64(50_000_000_000)})
					tokens[tokenOf{c.user, c.group}] = tok
				}
				before := s.balances(api, tok.id)
				id := s.send(c, tok.key)
				after := s.balances(api, tok.id)
				row := s.log(id)
				// Requests that cost nothing are counted in the background.
				for end := time.Now().Add(10 * time.Second); after.User.RequestCount == before.User.RequestCount && time.Now().Before(end); <-time.After(5 * time.Millisecond) {
					after = s.balances(api, tok.id)
				}
				want := c.quota
				if c.est {
					if !strings.Contains(row.Other, `"estimated":true`) {
						t.Errorf("not flagged as estimated: %s", row.Other)
					}
					if want < 0 {
						if want = row.Quota; want <= 0 {
							t.Errorf("an estimate of %d", want)
						}
					}
				} else if strings.Contains(row.Other, `"estimated":true`) {
					t.Errorf("flagged as estimated: %s", row.Other)
				}
				for _, d := range []struct {
					name      string
					got, want int64
				}{
					{"user quota", before.User.Quota - after.User.Quota, want}, {"user used_quota", after.User.UsedQuota - before.User.UsedQuota, want},
					{"user request_count", after.User.RequestCount - before.User.RequestCount, 1},
					{"token remain_quota", before.Token.RemainQuota - after.Token.RemainQuota, want}, {"token used_quota", after.Token.UsedQuota - before.Token.UsedQuota, want},
					{"log quota", row.Quota, want}, {"log type", int64(row.Type), 2},
				} {
					if d.got != d.want {
						t.Errorf("%s: %d, want %d", d.name, d.got, d.want)
					}
				}
				if c.prompt >= 0 && row.PromptTokens != c.prompt {
					t.Errorf("log prompt_tokens %d, want %d", row.PromptTokens, c.prompt)
				}
				if c.output >= 0 && row.CompletionTokens != c.output {
					t.Errorf("log completion_tokens %d, want %d", row.CompletionTokens, c.output)
				}
			})
		}
	})
}
