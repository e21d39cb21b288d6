package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

// call sends a request with headers and returns status and body.
func (s *site) call(method, path, body string, headers map[string]string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.node.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func bearer(key string) map[string]string { return map[string]string{"Authorization": "Bearer " + key} }

// What a token may do is set through the API and holds at the next request.
func TestLimits(t *testing.T) {
	harness.EachDatabase(t, func(t *testing.T, env map[string]string) {
		s := newSite(t, env)
		body := chat("plain", `{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}`)
		free := chat("free", `{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}`)
		_, limited := s.root.Token(map[string]any{"name": "limited", "model_limits_enabled": true, "model_limits": "plain,half"})
		_, elsewhere := s.root.Token(map[string]any{"name": "elsewhere", "allow_ips": "203.0.113.0/24"})
		_, here := s.root.Token(map[string]any{"name": "here", "allow_ips": "127.0.0.0/8"})
		_, past := s.root.Token(map[string]any{"name": "past", "expired_time": time.Now().Add(2 * time.Second).Unix()})
		_, empty := s.root.Token(map[string]any{"name": "empty", "unlimited_quota": false, "remain_quota": 0})
		_, forbidden := s.vip.Token(map[string]any{"name": "own"})
		id, open := s.root.Token(map[string]any{"name": "open"})
		check := func(name, key, body string, status int, code string) {
			t.Helper()
			got, out := s.call(http.MethodPost, chatPath, body, bearer(key))
			var e struct {
				Error struct {
					Code    string `json:"code"`
					Message string `json:"message"`
				} `json:"error"`
			}
			_ = json.Unmarshal([]byte(out), &e)
			if got != status || e.Error.Code != code || (status != 200 && !strings.Contains(e.Error.Message, "request id")) {
				t.Errorf("%s: %d %s", name, got, out)
			}
		}
		check("model allowed", limited, body, 200, "")
		check("model not allowed", limited, free, 403, "model_not_allowed")
		check("other address", elsewhere, body, 403, "access_denied")
		check("this address", here, body, 200, "")
		check("no balance, priced", empty, body, 403, "pre_consume_token_quota_failed")
		check("no balance, free", empty, free, 200, "")
		check("unknown key", "sk-unknown", body, 401, "invalid_api_key")
		check("pinned by a user", forbidden+"-"+fmt.Sprint(s.channels["openai"]), body, 403, "access_denied")
		check("pinned by root", open+"-"+fmt.Sprint(s.channels["openai"]), body, 200, "")
		check("unknown model", open, chat("nobody-has-it", `{}`), 503, "model_not_found")
		check("no price", open, chat("nobody-has-it", `{}`), 503, "model_not_found")
		check("not JSON", open, `{"model":`, 400, "invalid_request")
		check("a key twice", open, `{"model":"plain","model":"free","messages":[]}`, 400, "invalid_request")

		check("open", open, body, 200, "")
		s.root.Must(http.MethodPut, "/api/token/?status_only=true", map[string]any{"id": id, "status": 2})
		check("disabled", open, body, 401, "invalid_api_key")
		s.root.Must(http.MethodPut, "/api/token/?status_only=true", map[string]any{"id": id, "status": 1})
		check("enabled again", open, body, 200, "")
		s.root.Must(http.MethodDelete, fmt.Sprintf("/api/token/%d", id), nil)
		check("deleted", open, body, 401, "invalid_api_key")

		vip := s.userID("vipuser")
		check("user enabled", forbidden, body, 200, "")
		s.root.Must(http.MethodPost, "/api/user/manage", map[string]any{"id": vip, "action": "disable"})
		check("user disabled", forbidden, body, 403, "user_disabled")
		s.root.Must(http.MethodPost, "/api/user/manage", map[string]any{"id": vip, "action": "enable"})

		_, key := s.root.Token(map[string]any{"name": "channel test"})
		check("channel on", key, body, 200, "")
		s.root.Must(http.MethodPost, fmt.Sprintf("/api/channel/%d/status", s.channels["openai"]), map[string]any{"status": 2})
		check("channel off", key, body, 503, "model_not_found")
		s.root.Must(http.MethodPost, fmt.Sprintf("/api/channel/%d/status", s.channels["openai"]), map[string]any{"status": 1})
		check("channel on again", key, body, 200, "")

		for end := time.Now().Add(10 * time.Second); ; <-time.After(50 * time.Millisecond) {
			if status, _ := s.call(http.MethodPost, chatPath, body, bearer(past)); status == 401 {
				break
			}
			if time.Now().After(end) {
				t.Error("an expired token still works")
				break
			}
		}
	})
}

// The list of models has three shapes, and errors have the caller's.
func TestShapes(t *testing.T) {
	s := newSite(t, map[string]string{})
	_, key := s.root.Token(map[string]any{"name": "t"})
	claude := map[string]string{"x-api-key": key, "anthropic-version": "2023-06-01"}
	gemini := map[string]string{"x-goog-api-key": key}
	for _, c := range []struct {
		path    string
		headers map[string]string
		want    []string
	}{
		{"/v1/models", bearer(key), []string{`"object":"list"`, `"id":"plain"`, `"success":true`, `"owned_by"`}},
		{"/v1/models/plain", bearer(key), []string{`"id":"plain"`, `"object":"model"`}},
		{"/v1/models", claude, []string{`"has_more":false`, `"display_name":"claude-x"`, `"first_id"`}},
		{"/v1/models", gemini, []string{`"models":[`, `"displayName":`}},
		{"/v1beta/models", gemini, []string{`"models":[`, `"name":"models/gemini-x"`}},
		{"/v1beta/models?key=" + key, nil, []string{`"models":[`}},
		{"/v1beta/openai/models", bearer(key), []string{`"object":"list"`}},
	} {
		status, out := s.call(http.MethodGet, c.path, "", c.headers)
		for _, w := range c.want {
			if status != 200 || !strings.Contains(out, w) {
				t.Errorf("GET %s: %d, no %s in %.300s", strings.ReplaceAll(c.path, key, "KEY"), status, w, out)
			}
		}
	}
	for _, c := range []struct {
		path, body string
		headers    map[string]string
		status     int
		want       string
	}{
		{chatPath, `{}`, bearer("sk-x"), 401, `{"error":{"message":`},
		{claudePath, `{}`, map[string]string{"x-api-key": "sk-x"}, 401, `"type":"authentication_error"`},
		{geminiPath, `{}`, map[string]string{"x-goog-api-key": "sk-x"}, 401, `"status":"UNAUTHENTICATED"`},
		{claudePath, `{`, claude, 400, `"type":"invalid_request_error"`},
		{geminiPath, `{`, gemini, 400, `"status":"INVALID_ARGUMENT"`},
		{claudePath, claudeBody("no-such", `{}`), claude, 503, `"type":"error"`},
		{claudePath, claudeBody("plain", `{}`), claude, 0, `"type":"error"`}, // only an OpenAI channel has it
		{"/v1beta/models/plain:generateContent", `{"contents":[{"parts":[{"text":"x"}]}]}`, gemini, 0, `"error":{"code":`},
		{"/v1/files", `{}`, bearer(key), 501, `api_not_implemented`},
		{"/v1/nothing", `{}`, bearer(key), 404, `Invalid URL`},
	} {
		status, out := s.call(http.MethodPost, c.path, c.body, c.headers)
		if c.status != 0 && status != c.status || status < 400 || !strings.Contains(out, c.want) {
			t.Errorf("POST %s %s: %d %s", c.path, c.body, status, out)
		}
	}
}
