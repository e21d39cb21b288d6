package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/provider/fakellm"
)

func asker(t *testing.T) *Client {
	t.Helper()
	return NewClient(load(t), transport(t, TransportOptions{}))
}

func fake(t *testing.T, o fakellm.Options) (*fakellm.Server, string) {
	t.Helper()
	f := fakellm.New(o)
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return f, s.URL
}

func TestModels(t *testing.T) {
	c := asker(t)
	f, url := fake(t, fakellm.Options{Record: 10, Key: "sk-right", Models: []string{"a", "b/c", "a", "../x", ""}})
	for _, typ := range []int{1, 14, 24, 26, 4, 60} {
		ch := &core.Channel{Type: typ, Key: "sk-right", BaseURL: url}
		got, err := c.Models(t.Context(), ch)
		if err != nil || !slices.Equal(got, []string{"a", "b/c"}) {
			t.Errorf("type %d: %v, %v", typ, got, err)
		}
	}
	for _, r := range f.Requests() {
		if r.Method != http.MethodGet || len(r.Body) > 0 {
			t.Errorf("%s %s with %d bytes", r.Method, r.URI, len(r.Body))
		}
	}
	if _, err := c.Models(t.Context(), &core.Channel{Type: 1, Key: "sk-wrong", BaseURL: url}); !core.IsCode(err, core.CodeUpstreamStatus) || !strings.Contains(err.Error(), "401: Incorrect API key") {
		t.Errorf("wrong key: %v", err)
	}
	if _, err := c.Models(t.Context(), &core.Channel{Type: 38, Key: "k"}); !core.IsCode(err, core.CodeInvalidRequest) {
		t.Errorf("a vendor without a list: %v", err)
	}
	if _, err := c.Models(t.Context(), &core.Channel{Type: 33, Key: "k"}); !core.IsCode(err, core.CodeChannelConfig) {
		t.Errorf("a type without a row: %v", err)
	}
}

func TestModelPages(t *testing.T) {
	for _, tt := range []struct {
		typ  int
		page func(n int) string
		ask  string
	}{
		{24, func(n int) string {
			return fmt.Sprintf(`{"models":[{"name":"models/m%d"}],"nextPageToken":"t %d"}`, n, n)
		}, "pageToken"},
		{14, func(n int) string {
			return fmt.Sprintf(`{"data":[{"id":"m%d"}],"has_more":true,"last_id":"t %d"}`, n, n)
		}, "after_id"},
	} {
		n := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			want := ""
			if n > 0 {
				want = fmt.Sprintf("t %d", n)
			}
			if got := r.URL.Query().Get(tt.ask); got != want {
				t.Errorf("type %d, page %d: asked with %q", tt.typ, n, got)
			}
			n++
			_, _ = io.WriteString(w, tt.page(n))
		}))
		got, err := asker(t).Models(t.Context(), &core.Channel{Type: tt.typ, Key: "k", BaseURL: s.URL})
		s.Close()
		if err != nil || len(got) != maxListPages || got[19] != "m20" {
			t.Errorf("type %d: %d models, %v", tt.typ, len(got), err)
		}
	}
}

func TestModelListLimits(t *testing.T) {
	c := asker(t)
	c.Timeout = 200 * time.Millisecond
	for _, tt := range []struct {
		name, knobs string
		code        core.Code
	}{
		{"endless", `{"endless":true}`, core.CodeUpstreamBody},
		{"hangs", `{"hang":true}`, core.CodeUpstreamTimeout},
		{"garbage", `{"garbage":true}`, core.CodeUpstreamBody},
		{"cut", `{"cut_after_chunks":0}`, core.CodeUpstreamBody},
		{"redirect", `{"redirect":"http://169.254.169.254/"}`, core.CodeUpstreamStatus},
		{"error", `{"status":500,"error_body":"it broke"}`, core.CodeUpstreamStatus},
	} {
		_, url := fake(t, fakellm.Options{Fake: tt.knobs})
		if tt.name != "hangs" {
			c.Timeout = time.Minute
		} else {
			c.Timeout = 50 * time.Millisecond
		}
		if _, err := c.Models(t.Context(), &core.Channel{Type: 1, Key: "k", BaseURL: url}); !core.IsCode(err, tt.code) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestChannelTest(t *testing.T) {
	c := asker(t)
	f, url := fake(t, fakellm.Options{Record: 100})
	for _, tt := range []struct {
		typ    int
		model  string
		op     llm.Operation
		stream bool
		path   string
	}{
		{1, "m", llm.OpChat, false, "/v1/chat/completions"},
		{1, "m", llm.OpChat, true, "/v1/chat/completions"},
		{1, "m", "", false, "/v1/chat/completions"},
		{1, "text-embedding-3", "", true, "/v1/embeddings"},
		{1, "bge-reranker", "", false, "/v1/rerank"},
		{1, "m", llm.OpCompletions, true, "/v1/completions"},
		{1, "m", llm.OpResponses, false, "/v1/responses"},
		{1, "m", llm.OpResponses, true, "/v1/responses"},
		{1, "m", llm.OpModerations, false, "/v1/moderations"},
		{1, "m", llm.OpImageGenerations, false, "/v1/images/generations"},
		{14, "m", "", false, "/v1/messages"},
		{14, "m", "", true, "/v1/messages"},
		{24, "m", "", false, "/v1beta/models/m:generateContent"},
		{24, "m", "", true, "/v1beta/models/m:streamGenerateContent?alt=sse"},
		{24, "gemini-embedding", "", false, "/v1beta/models/gemini-embedding:embedContent"},
		{38, "jina-reranker", "", false, "/v1/rerank"},
		{38, "jina-embeddings", "", false, "/v1/embeddings"},
		{3, "dep", "", false, "/openai/deployments/dep/chat/completions?api-version=2025-04-01-preview"},
	} {
		ch := &core.Channel{ID: 9, Type: tt.typ, Key: "sk-k", BaseURL: url, Models: []string{tt.model}, ModelMapping: `{"other":"x"}`}
		if err := ch.Prepare(); err != nil {
			t.Fatal(err)
		}
		d, err := c.Test(t.Context(), ch, tt.model, tt.op, tt.stream)
		if err != nil || d < 0 {
			t.Errorf("type %d %s %s: %v, %v", tt.typ, tt.model, tt.op, d, err)
			continue
		}
		reqs := f.Requests()
		last := reqs[len(reqs)-1]
		if last.URI != tt.path {
			t.Errorf("type %d %s: asked at %s", tt.typ, tt.model, last.URI)
		}
		var body map[string]any
		if err := json.Unmarshal(last.Body, &body); err != nil {
			t.Errorf("body %q", last.Body)
		}
	}
	mapped := &core.Channel{ID: 9, Type: 1, Key: "k", BaseURL: url, ModelMapping: `{"m":"up"}`, TestModel: "m"}
	if err := mapped.Prepare(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Test(t.Context(), mapped, "", "", false); err != nil {
		t.Error(err)
	}
	reqs := f.Requests()
	if !strings.Contains(string(reqs[len(reqs)-1].Body), `"model":"up"`) {
		t.Errorf("sent %s", reqs[len(reqs)-1].Body)
	}
	if _, err := c.Test(t.Context(), mapped, "", llm.OpTranscriptions, false); !core.IsCode(err, core.CodeInvalidRequest) {
		t.Errorf("an operation without a test: %v", err)
	}
}

func TestChannelTestFailures(t *testing.T) {
	c := asker(t)
	for _, tt := range []struct {
		name, knobs string
		stream      bool
		code        core.Code
		says        string
	}{
		{"status", `{"status":429}`, false, core.CodeUpstreamStatus, "429: The fake LLM"},
		{"key in the error", `{"status":401,"error_body":{"error":{"message":"bad key sk-secret-1 or sk-secret-2\nok"}}}`, false, core.CodeUpstreamStatus, "bad key [redacted] or [redacted] ok"},
		{"text", `{"status":502,"error_body":"<html>oh</html>"}`, false, core.CodeUpstreamStatus, "<html>oh</html>"},
		{"error in 200", `{"status":200,"garbage":true}`, false, core.CodeUpstreamBody, "not JSON"},
		{"cut", `{"cut_after_chunks":0}`, false, core.CodeUpstreamBody, "broke off"},
		{"cut stream", `{"cut_after_chunks":1}`, true, core.CodeUpstreamBody, "broke off"},
		{"error event", `{"error_after_chunks":1}`, true, core.CodeUpstreamBody, "holds an error"},
		{"no stream", `{"content_type":"application/json"}`, true, core.CodeUpstreamBody, "another type"},
		{"closed", `{"close":true}`, false, core.CodeUpstreamConnect, "closed"},
		{"bomb", `{"gzip_bomb":true}`, false, core.CodeUpstreamBody, "not JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, url := fake(t, fakellm.Options{Fake: tt.knobs})
			ch := &core.Channel{ID: 9, Type: 1, Key: "sk-secret-1\nsk-secret-2", BaseURL: url}
			_, err := c.Test(t.Context(), ch, "m", llm.OpChat, tt.stream)
			if !core.IsCode(err, tt.code) || !strings.Contains(core.AsError(err).Message, tt.says) {
				t.Fatalf("%v", err)
			}
		})
	}
	_, url := fake(t, fakellm.Options{Fake: `{"hang":true}`})
	c.Timeout = 50 * time.Millisecond
	if _, err := c.Test(t.Context(), &core.Channel{Type: 1, Key: "k", BaseURL: url}, "m", "", false); !core.IsCode(err, core.CodeUpstreamTimeout) {
		t.Errorf("hangs: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Test(ctx, &core.Channel{Type: 1, Key: "k", BaseURL: url}, "m", "", false); core.IsCode(err, core.CodeUpstreamTimeout) || err == nil {
		t.Errorf("cancelled: %v", err)
	}
}
