package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/inmem"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/store"
)

func TestRequestID(t *testing.T) {
	x := newSite(t)
	for _, c := range []struct {
		name, given string
		kept        bool
	}{
		{"sane", "req_0123-AZ.az", true},
		{"none", "", false},
		{"short", "abc", false},
		{"long", strings.Repeat("a", 65), false},
		{"injection", "abcdefgh\"<x>", false},
		{"blank", "abcd efgh", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := x.guest()
			if c.given != "" {
				a.header = map[string]string{"X-Request-Id": c.given}
			}
			for _, path := range []string{"/api/status", "/v1/chat/completions", "/nowhere", "/api/user/self", "/livez"} {
				r := a.do("GET", path, "")
				id := r.res.Header.Get("X-Request-Id")
				if id == "" || id != r.res.Header.Get("X-Oneapi-Request-Id") {
					t.Errorf("%s: ids %q and %q", path, id, r.res.Header.Get("X-Oneapi-Request-Id"))
				}
				if (id == c.given) != c.kept {
					t.Errorf("%s: id %q from %q", path, id, c.given)
				}
			}
		})
	}
	seen := map[string]bool{}
	for range 1000 {
		id := requestID("", time.Now())
		if len(id) != 32 || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

func TestUnrouted(t *testing.T) {
	x := newSite(t)
	for _, c := range []struct {
		method, path string
		status       int
		want         map[string]string // path in the body -> value
	}{
		{"GET", "/v1/nowhere", 404, map[string]string{"error.message": "Invalid URL (GET /v1/nowhere)", "error.type": "invalid_request_error", "error.code": "", "error.param": ""}},
		{"POST", "/api/nowhere", 404, map[string]string{"error.message": "Invalid URL (POST /api/nowhere)", "error.type": "invalid_request_error"}},
		{"GET", "/assets/x.js", 404, map[string]string{"error.type": "invalid_request_error"}},
		{"GET", "/", 404, map[string]string{"error.type": "invalid_request_error"}},
		{"POST", "/v1/messages/nowhere", 404, map[string]string{"type": "error", "error.type": "not_found_error"}},
		{"POST", "/v1beta/nowhere", 404, map[string]string{"error.code": "404", "error.status": "NOT_FOUND"}},
		{"GET", "/v1/chat/completions", 405, map[string]string{"error.type": "invalid_request_error", "error.code": "method_not_allowed"}},
		{"GET", "/v1/messages", 405, map[string]string{"type": "error", "error.type": "invalid_request_error"}},
		{"PATCH", "/api/user/self", 405, map[string]string{"success": "false", "code": "method_not_allowed"}},
		{"POST", "/v1/images/variations", 501, map[string]string{"error.message": "API not implemented", "error.type": "new_api_error", "error.param": "", "error.code": "api_not_implemented"}},
		{"GET", "/v1/files", 501, map[string]string{"error.code": "api_not_implemented"}},
		{"DELETE", "/v1/files/abc", 501, map[string]string{"error.code": "api_not_implemented"}},
		{"POST", "/v1/fine-tunes/x/cancel", 501, map[string]string{"error.code": "api_not_implemented"}},
		{"DELETE", "/v1/models/gpt-4o", 501, map[string]string{"error.code": "api_not_implemented"}},
		{"GET", "/v1/responses/resp_1", 501, map[string]string{"error.code": "api_not_implemented"}},
		{"POST", "/v1beta/models/gemini-pro:translate", 501, map[string]string{"error.status": "UNIMPLEMENTED"}},
		{"POST", "/v1beta/models/gemini-pro", 404, map[string]string{"error.status": "NOT_FOUND"}},
		{"GET", "/metrics", 404, map[string]string{"error.type": "invalid_request_error"}},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			r := x.guest().do(c.method, c.path, "{}")
			if r.status != c.status {
				t.Fatalf("status %d, want %d: %s", r.status, c.status, r.body)
			}
			for path, want := range c.want {
				if v := r.get(path); v.String() != want || !v.Exists() {
					t.Errorf("%s is %q in %s, want %q", path, v.String(), r.body, want)
				}
			}
			if c.status == 405 && r.res.Header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
		})
	}
}

func TestRelayRoutes(t *testing.T) {
	x := newSite(t)
	u := x.addUser("u", core.RoleUser)
	_, key := x.addToken(u, nil)
	a := x.as("sk-" + key)
	for path, op := range relayOps {
		if r := a.do("POST", path, "{}"); r.status != 200 || r.get("op").String() != string(op) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	for _, c := range []struct{ method, path, op, model string }{
		{"POST", "/v1beta/models/gemini-pro:generateContent", "generateContent", "gemini-pro"},
		{"POST", "/v1beta/models/a/b:c:streamGenerateContent?alt=sse", "streamGenerateContent", "a/b:c"},
		{"POST", "/v1beta/models/a%2Fb:countTokens", "countTokens", "a/b"},
		{"POST", "/v1/models/gemini-pro:embedContent", "embedContent", "gemini-pro"},
		{"POST", "/v1beta/models/m:batchEmbedContents", "batchEmbedContents", "m"},
		{"GET", "/v1/models", "openai", ""},
		{"GET", "/v1/models/openai/gpt-4o", "openai", "openai/gpt-4o"},
		{"GET", "/v1beta/models", "gemini", ""},
		{"GET", "/v1beta/models/gemini-pro", "gemini", "gemini-pro"},
		{"GET", "/v1beta/openai/models", "openai", ""},
		{"GET", "/v1/models?key=" + key, "gemini", ""},
	} {
		r := a.do(c.method, c.path, "{}")
		if r.status != 200 || r.get("op").String() != c.op || r.get("model").String() != c.model {
			t.Errorf("%s %s: %d %s", c.method, c.path, r.status, r.body)
		}
	}
	a.header = map[string]string{"X-Api-Key": key, "Anthropic-Version": "2023-06-01"}
	if r := a.do("GET", "/v1/models", ""); r.get("op").String() != string(llm.Claude) {
		t.Errorf("Claude list: %s", r.body)
	}
	if r := a.do("POST", "/v1/messages", "{}"); r.res.Header.Get("Request-Id") == "" {
		t.Error("no request-id for Claude's SDKs")
	}
}

func TestPanic(t *testing.T) {
	x := newSite(t)
	x.relay.serve = func(w http.ResponseWriter, _ *http.Request, op llm.Operation, _ string) {
		if op == llm.OpCompletions {
			_, _ = w.Write([]byte("data: begun"))
		}
		panic("a bug with canary-0815 in it")
	}
	for path, want := range map[string]string{"/v1/chat/completions": "error.type=new_api_error", "/v1/messages": "error.type=api_error", "/v1beta/models/m:generateContent": "error.status=INTERNAL"} {
		r := x.guest().do("POST", path, "{}")
		field, value, _ := strings.Cut(want, "=")
		if r.status != 500 || r.get(field).String() != value || strings.Contains(r.body, "canary") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	t.Run("after the answer began", func(t *testing.T) {
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("recovered %v: the connection would end as if it were whole", err)
			}
		}()
		x.guest().do("POST", "/v1/completions", "{}")
	})
}

func TestCORS(t *testing.T) {
	x := newSite(t)
	browser := x.guest()
	browser.header = map[string]string{"Origin": "https://app.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
	for path, open := range map[string]bool{
		"/v1/chat/completions": true, "/v1beta/models/m:generateContent": true, "/dashboard/billing/usage": true, "/v1/dashboard/billing/usage": true,
		"/api/usage/token/": true, "/api/log/token": true,
		"/api/user/login": false, "/api/token/": false, "/api/status": false, "/": false, "/metrics": false,
	} {
		r := browser.do("OPTIONS", path, "")
		got := r.res.Header.Get("Access-Control-Allow-Origin")
		if open && (got != "*" || r.status != 204 || r.res.Header.Get("Access-Control-Allow-Headers") != "authorization,x-stainless-os") || !open && got != "" {
			t.Errorf("%s: status %d, origin %q", path, r.status, got)
		}
		if r.res.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s allows credentials", path)
		}
	}
	x.cfg.Server.CORSOrigins = []string{"https://app.example"}
	if got := browser.do("POST", "/v1/chat/completions", "{}").res.Header.Get("Access-Control-Allow-Origin"); got != "https://app.example" {
		t.Errorf("listed origin: %q", got)
	}
	browser.header["Origin"] = "https://evil.example"
	if got := browser.do("POST", "/v1/chat/completions", "{}").res.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("unlisted origin: %q", got)
	}
}

func TestSecurityHeaders(t *testing.T) {
	x := newSite(t)
	for _, path := range []string{"/api/status", "/api/user/self", "/api/nowhere"} {
		h := x.guest().do("GET", path, "").res.Header
		for k, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
			if h.Get(k) != want {
				t.Errorf("%s: %s is %q", path, k, h.Get(k))
			}
		}
	}
}

func TestTableHasEachRouteOnce(t *testing.T) {
	x := newSite(t)
	seen := map[string]bool{}
	for i := range x.srv.table {
		rt := &x.srv.table[i]
		if rt.handler == nil && rt.op == "" {
			t.Errorf("%s %s has no handler", rt.method, rt.path)
		}
		for _, path := range rt.paths() {
			for _, m := range rt.methods() {
				if key := m + " " + path; seen[key] {
					t.Errorf("%s stands twice in the table", key)
				} else {
					seen[key] = true
				}
			}
		}
	}
}

func TestPageQuery(t *testing.T) {
	for query, want := range map[string]core.PageQuery{
		"":                              {Offset: 0, Limit: 10},
		"p=1":                           {Offset: 0, Limit: 10},
		"p=3&page_size=20":              {Offset: 40, Limit: 20},
		"p=0&size=5":                    {Offset: 0, Limit: 5},
		"p=-4&ps=7":                     {Offset: 0, Limit: 7},
		"page_size=1000":                {Offset: 0, Limit: 100},
		"p=x&page_size=y":               {Offset: 0, Limit: 10},
		"p=99999999999&page_size=100":   {Offset: 99_999_900, Limit: 100},
		"page_size=0&size=30&p=2":       {Offset: 30, Limit: 30},
		"p=99999999999999999999&size=1": {Offset: 0, Limit: 1},
	} {
		c := &call{r: httptest.NewRequest("GET", "/api/x?"+query, nil)}
		if got := c.pageQuery(); got != want {
			t.Errorf("%q: %+v, want %+v", query, got, want)
		}
	}
}

func TestBind(t *testing.T) {
	x := newSite(t)
	x.cfg.Server.AnonymousBody = 1024
	for _, c := range []struct {
		name, body  string
		status      int
		message, at string
	}{
		{"empty", "", 200, "the body is empty", ""},
		{"no JSON", "{", 200, "not JSON", ""},
		{"two values", `{"username":"a"} {}`, 200, "not JSON", ""},
		{"wrong type", `{"username":5,"password":"12345678"}`, 200, "username: must be a text, not number", "username"},
		{"missing", `{"password":"12345678"}`, 200, "username: is required", "username"},
		{"too long", `{"username":"abcdefghijklmnopqrstu","password":"12345678"}`, 200, "username: must be at most 20 characters", "username"},
		{"password", `{"username":"abc","password":"1234567"}`, 200, "password: must have 8 to 128 characters", "password"},
		{"at", `{"username":"a@b","password":"12345678"}`, 200, "username: must not contain @", "username"},
		{"too large", `{"username":"` + strings.Repeat("x", 2000) + `"}`, 413, "longer than 1024 bytes", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := x.guest().do("POST", "/api/user/register", c.body)
			if r.status != c.status || r.success() || !strings.Contains(r.get("message").String(), c.message) || r.get("param").String() != c.at {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
}

// What stands between net/http and a relay that does nothing.
func BenchmarkFront(b *testing.B) {
	cfg := config.Default()
	s, err := New(Options{Store: &store.Store{}, Keys: &store.Keyring{}, Codecs: llm.Codecs{llm.OpenAI: shapeCodec{}}, Snapshot: func() *core.Snapshot { return nil },
		Relay:  &fakeRelay{serve: func(http.ResponseWriter, *http.Request, llm.Operation, string) {}},
		Config: func() *config.Config { return cfg }, Ready: func(context.Context) []Check { return nil }, Counters: inmem.NewCounters(inmem.Options{}), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range []string{"/v1/chat/completions", "/v1beta/models/gemini-pro:generateContent"} {
		b.Run(path, func(b *testing.B) {
			h := s.Handler()
			req := httptest.NewRequest("POST", path, http.NoBody)
			w := &nullWriter{h: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				h.ServeHTTP(w, req)
			}
		})
	}
}

type nullWriter struct{ h http.Header }

func (w *nullWriter) Header() http.Header         { return w.h }
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *nullWriter) WriteHeader(int)             {}

func TestLogHasNoSecrets(t *testing.T) {
	x := newSite(t)
	u := x.addUser("alice", core.RoleUser)
	a := x.logIn("alice")
	a.data("GET", "/api/user/self?key=canary-query", "")
	token := a.data("GET", "/api/user/token", "").String()
	key := a.data("POST", "/api/token/", `{"name":"k","unlimited_quota":true}`).Get("key").String()
	x.guest().do("POST", "/api/user/login", `{"username":"alice","password":"canary-password"}`)
	logs := x.logs.String()
	if !strings.Contains(logs, `"route":"GET /api/user/self"`) || !strings.Contains(logs, fmt.Sprintf(`"user_id":%d`, u.ID)) {
		t.Errorf("no access log in %s", logs)
	}
	for name, secret := range map[string]string{"query": "canary-query", "access token": token, "key": key, "password": testPassword, "wrong password": "canary-password", "cookie": a.cookie} {
		if secret == "" || strings.Contains(logs, secret) {
			t.Errorf("%s %q stands in the log", name, secret)
		}
	}
}
