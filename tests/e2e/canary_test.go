package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

// An upstream that talks too much: it repeats the key that it was given, in an
// error body, a header and an answer. Neither the client nor the log may see it.
func TestSecretsStayInside(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Debug-Key", key)
		w.Header().Set("Set-Cookie", "upstream="+key)
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(string(body), "inside") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, `data: {"id":"1","choices":[{"index":0,"delta":{"content":"x"}}]}`+"\n\n"+`data: {"error":{"message":"quota of `+key+` is used up","type":"server_error"}}`+"\n\n")
			return
		}
		// 401 is answered in the gateway's own words; a 400's message is passed on.
		status := http.StatusUnauthorized
		if strings.Contains(string(body), "passed on") {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"error":{"message":"Incorrect API key provided: `+key+` for `+r.Host+`","type":"invalid_request_error","code":"invalid_api_key"}}`+strings.Repeat(" ", len(body)%7))
	}))
	t.Cleanup(up.Close)
	dir := t.TempDir()
	n := harness.StartNode(t, harness.NodeOptions{Dir: dir, Env: map[string]string{
		"SLUICE_LOG__DIR": filepath.Join(dir, "logs"), "SLUICE_LOG__LEVEL": "debug", "ERROR_LOG_ENABLED": "true", "SLUICE_BILLING__LOG_FLUSH_INTERVAL": "20ms",
	}})
	api := harness.NewAPI(t, n.URL)
	api.Setup()
	api.Option("ModelRatio", `{"m":1}`)
	api.Channel(map[string]any{"name": "loud", "type": 1, "models": "m", "base_url": up.URL, "setting": `{"proxy":""}`})
	_, key := api.Token(map[string]any{"name": "t"})
	for _, body := range []string{`{"model":"m","messages":[{"role":"user","content":"x"}]}`, `{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`, `{"model":"m","messages":[{"role":"user","content":"passed on"}]}`, `{"model":"m","stream":true,"messages":[{"role":"user","content":"inside"}]}`, `{"model":`, `{}`} {
		req, err := http.NewRequest(http.MethodPost, n.URL+"/v1/chat/completions?key="+key, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		var head strings.Builder
		_ = resp.Header.Write(&head)
		if what := harness.FindCanary([]byte(head.String() + string(b))); what != "" {
			t.Errorf("a client saw a secret (%s): %s\n%s", what, head.String(), b)
		}
	}
	// Every list that an administrator can read, while keys, passwords and sessions exist.
	for _, path := range []string{
		"/api/channel/", "/api/channel/1", "/api/channel/search?keyword=loud", "/api/token/", "/api/token/1", "/api/token/search?keyword=t", "/api/user/", "/api/user/1",
		"/api/user/self", "/api/option/", "/api/log/", "/api/log/self", "/api/audit/", "/api/status", "/api/setup", "/api/models", "/api/pricing", "/readyz?verbose",
	} {
		api.Do(http.MethodGet, path, nil)
	}
	harness.Plant("wrong password", "wrong-password-canary")
	api.Do(http.MethodPost, "/api/user/login", map[string]any{"username": "root", "password": "wrong-password-canary"})
	if err := n.Stop(20 * time.Second); err != nil {
		t.Fatalf("%v\n%s", err, n.Log)
	}
	// The node's cleanup searches log, log files, metrics and the database file.
}
