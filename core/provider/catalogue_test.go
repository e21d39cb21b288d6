package provider

import (
	"context"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func load(t testing.TB) *Catalogue {
	t.Helper()
	data, err := os.ReadFile("../../configs/providers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func row(t testing.TB, c *Catalogue, typ int) *Row {
	t.Helper()
	r, ok := c.Row(typ)
	if !ok {
		t.Fatalf("type %d has no row", typ)
	}
	return r
}

func TestShippedCatalogue(t *testing.T) {
	c := load(t)
	for _, typ := range []int{1, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 17, 19, 20, 22, 24, 25, 26, 27, 31, 34, 35, 38, 39, 40, 42, 43, 44, 45, 46, 47, 48, 53, 59, 60} {
		row(t, c, typ)
	}
	for _, typ := range []int{0, 2, 5, 15, 18, 33, 41, 57, 999} {
		if _, ok := c.Row(typ); ok {
			t.Errorf("type %d has a row, though its upstream speaks none of the formats", typ)
		}
	}
	// spec 5.9: who takes stream_options, as far as the type has a row
	wants := map[int]bool{}
	for _, typ := range []int{1, 3, 4, 14, 17, 24, 25, 26, 35, 39, 40, 43, 45, 46, 48, 53, 59, 60} {
		wants[typ] = true
	}
	for _, r := range c.Rows() {
		if r.StreamOptions != wants[r.Type] {
			t.Errorf("%s (type %d): stream_options is %v", r.Name, r.Type, r.StreamOptions)
		}
		if len(r.Operations()) == 0 {
			t.Errorf("%s offers nothing", r.Name)
		}
	}
	openai := row(t, c, 1)
	for op := range suffixes {
		if want := op.Format() == llm.OpenAI || op.Format() == llm.Responses; openai.Supports(op) != want {
			t.Errorf("OpenAI supports %s: %v", op, !want)
		}
	}
}

func TestURLs(t *testing.T) {
	c := load(t)
	for _, tt := range []struct {
		typ   int
		base  string
		other string
		op    llm.Operation
		model string
		query string
		want  string
	}{
		{1, "", "", llm.OpChat, "m", "", "https://api.openai.com/v1/chat/completions"},
		{1, "", "", llm.OpResponses, "m", "", "https://api.openai.com/v1/responses"},
		{1, "", "", llm.OpSpeech, "m", "", "https://api.openai.com/v1/audio/speech"},
		{1, "https://h/", "", llm.OpChat, "m", "", "https://h/v1/chat/completions"},
		{1, "https://h///", "", llm.OpChat, "m", "", "https://h/v1/chat/completions"},
		{1, " http://h:8080/v1/ ", "", llm.OpChat, "m", "", "http://h:8080/v1/chat/completions"},
		{1, "http://h/proxy/v1", "", llm.OpEmbeddings, "m", "", "http://h/proxy/v1/embeddings"},
		{1, "http://h/v1/v1", "", llm.OpChat, "m", "", "http://h/v1/v1/chat/completions"},
		{1, "http://h/v2", "", llm.OpChat, "m", "", "http://h/v2/v1/chat/completions"},
		{1, "http://h/openai%2Fx", "", llm.OpChat, "m", "", "http://h/openai%2Fx/v1/chat/completions"},
		{1, "http://[::1]:1234", "", llm.OpChat, "m", "", "http://[::1]:1234/v1/chat/completions"},
		{1, "", "", llm.OpChat, "m", "a=1&key=sk-secret&b=2", "https://api.openai.com/v1/chat/completions?a=1&b=2"},
		{3, "https://r.openai.azure.com", "", llm.OpChat, "gpt-4.1", "api-version=1999&x=y", "https://r.openai.azure.com/openai/deployments/gpt-4.1/chat/completions?api-version=2025-04-01-preview&x=y"},
		{3, "https://r.openai.azure.com", "2024-10-21", llm.OpEmbeddings, "emb", "", "https://r.openai.azure.com/openai/deployments/emb/embeddings?api-version=2024-10-21"},
		{3, "https://r.openai.azure.com", "", llm.OpResponses, "gpt", "", "https://r.openai.azure.com/openai/v1/responses?api-version=preview"},
		{4, "", "", llm.OpChat, "m", "", "http://localhost:11434/v1/chat/completions"},
		{8, "https://h/x/{model}/chat?m={model}&v=1", "", llm.OpChat, "a/b c", "ignored=1", "https://h/x/a%2Fb%20c/chat?m=a%2Fb+c&v=1"},
		{8, "https://h/plain", "", llm.OpEmbeddings, "m", "", "https://h/plain"},
		{14, "", "", llm.OpMessages, "m", "beta=true", "https://api.anthropic.com/v1/messages?beta=true"},
		{14, "https://h/v1", "", llm.OpMessagesCount, "m", "", "https://h/v1/messages/count_tokens"},
		{17, "", "", llm.OpChat, "m", "", "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"},
		{20, "", "", llm.OpChat, "m", "", "https://openrouter.ai/api/v1/chat/completions"},
		{24, "", "", llm.OpGenerate, "gemini-2.5-pro", "key=AIza", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent"},
		{24, "", "v1", llm.OpStreamGenerate, "g", "key=AIza&alt=sse", "https://generativelanguage.googleapis.com/v1/models/g:streamGenerateContent?alt=sse"},
		{24, "", "", llm.OpStreamGenerate, "g", "%6bey=AIza&KEY=x&alt=sse", "https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent?alt=sse"},
		{24, "https://h/v1beta", "", llm.OpBatchEmbed, "e", "", "https://h/v1beta/models/e:batchEmbedContents"},
		{24, "", "", llm.OpEmbedContent, "a/b?c#d", "", "https://generativelanguage.googleapis.com/v1beta/models/a%2Fb%3Fc%23d:embedContent"},
		{24, "", "", llm.OpGeminiCount, "g", "", "https://generativelanguage.googleapis.com/v1beta/models/g:countTokens"},
		{26, "", "", llm.OpChat, "m", "", "https://open.bigmodel.cn/api/paas/v4/chat/completions"},
		{26, "", "", llm.OpMessages, "m", "", "https://open.bigmodel.cn/api/anthropic/v1/messages"},
		{26, "glm-coding-plan", "", llm.OpChat, "m", "", "https://open.bigmodel.cn/api/coding/paas/v4/chat/completions"},
		{26, "glm-coding-plan-international", "", llm.OpMessages, "m", "", "https://api.z.ai/api/anthropic/v1/messages"},
		{25, "kimi-coding-plan", "", llm.OpMessages, "m", "", "https://api.kimi.com/coding/v1/messages"},
		{45, "doubao-coding-plan", "", llm.OpChat, "m", "", "https://ark.cn-beijing.volces.com/api/coding/v3/chat/completions"},
		{27, "", "", llm.OpChat, "m", "", "https://api.perplexity.ai/chat/completions"},
		{34, "", "", llm.OpRerank, "m", "", "https://api.cohere.ai/v1/rerank"},
		{34, "", "", llm.OpChat, "m", "", "https://api.cohere.ai/compatibility/v1/chat/completions"},
		{38, "", "", llm.OpRerank, "m", "", "https://api.jina.ai/v1/rerank"},
		{39, "", "acc0", llm.OpChat, "m", "", "https://api.cloudflare.com/client/v4/accounts/acc0/ai/v1/chat/completions"},
		{43, "", "", llm.OpMessages, "m", "", "https://api.deepseek.com/anthropic/v1/messages"},
		{43, "", "", llm.OpCompletions, "m", "", "https://api.deepseek.com/beta/completions"},
		{45, "", "", llm.OpResponses, "m", "", "https://ark.cn-beijing.volces.com/api/v3/responses"},
		{46, "https://h/v2", "", llm.OpChat, "m", "", "https://h/v2/chat/completions"},
		{60, "https://h", "", llm.OpGenerate, "g", "", "https://h/v1beta/models/g:generateContent"},
	} {
		ch := &core.Channel{ID: 1, Type: tt.typ, Key: "k", BaseURL: tt.base, Other: tt.other}
		req, err := row(t, c, tt.typ).Request(context.Background(), ch, tt.op, tt.model, false, tt.query, []byte("{}"), "application/json", nil, nil)
		if err != nil {
			t.Errorf("type %d %s %q: %v", tt.typ, tt.op, tt.base, err)
			continue
		}
		if got := req.URL.String(); got != tt.want {
			t.Errorf("type %d %s %q:\n got %s\nwant %s", tt.typ, tt.op, tt.base, got, tt.want)
		}
		if got, want := req.URL.RequestURI(), strings.TrimPrefix(tt.want, req.URL.Scheme+"://"+req.URL.Host); got != want {
			t.Errorf("type %d %s: request line %s, want %s", tt.typ, tt.op, got, want)
		}
	}
}

func TestWrongChannels(t *testing.T) {
	c := load(t)
	for _, tt := range []struct {
		name  string
		ch    core.Channel
		op    llm.Operation
		model string
		code  core.Code
		says  string
	}{
		{"no such operation", core.Channel{Type: 38, Key: "k"}, llm.OpChat, "m", core.CodeConvert, "Jina"},
		{"no base", core.Channel{Type: 3, Key: "k"}, llm.OpChat, "m", core.CodeChannelConfig, "base_url is empty"},
		{"no key", core.Channel{Type: 1}, llm.OpChat, "m", core.CodeChannelKey, "no key"},
		{"blank keys", core.Channel{Type: 1, Key: " \n\r\n "}, llm.OpChat, "m", core.CodeChannelKey, "no key"},
		{"header injection", core.Channel{Type: 1, Key: "sk-1\rX-Evil: 1"}, llm.OpChat, "m", core.CodeChannelKey, "character"},
		{"NUL in key", core.Channel{Type: 1, Key: "sk\x001"}, llm.OpChat, "m", core.CodeChannelKey, "character"},
		{"key outside ASCII", core.Channel{Type: 1, Key: "sk-ü"}, llm.OpChat, "m", core.CodeChannelKey, "character"},
		{"one bad among good", core.Channel{Type: 1, Key: "a\nb\x7f\nc"}, llm.OpChat, "m", core.CodeChannelKey, "character"},
		{"scheme", core.Channel{Type: 1, Key: "k", BaseURL: "file:///etc"}, llm.OpChat, "m", core.CodeChannelConfig, "http"},
		{"no scheme", core.Channel{Type: 1, Key: "k", BaseURL: "api.openai.com"}, llm.OpChat, "m", core.CodeChannelConfig, "http"},
		{"userinfo", core.Channel{Type: 1, Key: "k", BaseURL: "https://user:hunter2@h"}, llm.OpChat, "m", core.CodeChannelConfig, "credentials"},
		{"query", core.Channel{Type: 1, Key: "k", BaseURL: "https://h?x=1"}, llm.OpChat, "m", core.CodeChannelConfig, "query"},
		{"fragment", core.Channel{Type: 1, Key: "k", BaseURL: "https://h/#"}, llm.OpChat, "m", core.CodeChannelConfig, "fragment"},
		{"host", core.Channel{Type: 1, Key: "k", BaseURL: "https:///v1"}, llm.OpChat, "m", core.CodeChannelConfig, "host"},
		{"zone", core.Channel{Type: 1, Key: "k", BaseURL: "http://[fe80::1%25eth0]/"}, llm.OpChat, "m", core.CodeChannelConfig, "zone"},
		{"wide digits", core.Channel{Type: 1, Key: "k", BaseURL: "http://１６９.254.169.254/"}, llm.OpChat, "m", core.CodeChannelConfig, "ASCII"},
		{"port", core.Channel{Type: 1, Key: "k", BaseURL: "http://h:99999/"}, llm.OpChat, "m", core.CodeChannelConfig, "port"},
		{"control", core.Channel{Type: 1, Key: "k", BaseURL: "http://h/\r\nX: y"}, llm.OpChat, "m", core.CodeChannelConfig, "ASCII"},
		{"model in host", core.Channel{Type: 8, Key: "k", BaseURL: "http://{model}/x"}, llm.OpChat, "m", core.CodeChannelConfig, "host"},
		{"other", core.Channel{Type: 24, Key: "k", Other: "../x"}, llm.OpGenerate, "m", core.CodeChannelConfig, "other"},
		{"other missing", core.Channel{Type: 39, Key: "k"}, llm.OpChat, "m", core.CodeChannelConfig, "other"},
		{"dots", core.Channel{Type: 3, Key: "k", BaseURL: "http://h"}, llm.OpChat, "..", core.CodeInvalidRequest, "path"},
		{"dot segments", core.Channel{Type: 24, Key: "k"}, llm.OpGenerate, "x/../../v1/files", core.CodeInvalidRequest, "path"},
		{"backslash", core.Channel{Type: 24, Key: "k"}, llm.OpGenerate, `x\y`, core.CodeInvalidRequest, "path"},
		{"control in model", core.Channel{Type: 24, Key: "k"}, llm.OpGenerate, "x\ny", core.CodeInvalidRequest, "control"},
		{"empty model", core.Channel{Type: 24, Key: "k"}, llm.OpGenerate, "", core.CodeInvalidRequest, "empty"},
		{"regexp", core.Channel{Type: 1, Key: "k", HeaderOverride: `{"re:(":""}`}, llm.OpChat, "m", core.CodeChannelConfig, "header_override"},
		{"header name", core.Channel{Type: 1, Key: "k", HeaderOverride: `{"X Y":"1"}`}, llm.OpChat, "m", core.CodeChannelConfig, "header_override"},
		{"header value", core.Channel{Type: 1, Key: "k", HeaderOverride: `{"X-Y":"1\r\nZ: 2"}`}, llm.OpChat, "m", core.CodeChannelConfig, "control"},
		{"client credential", core.Channel{Type: 1, Key: "k", HeaderOverride: `{"X-Y":"{client_header:authorization}"}`}, llm.OpChat, "m", core.CodeChannelConfig, "taken from the client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ch := tt.ch
			ch.ID = 7
			if err := ch.Prepare(); err != nil {
				t.Fatal(err)
			}
			_, err := row(t, c, ch.Type).Request(context.Background(), &ch, tt.op, tt.model, false, "", nil, "", nil, nil)
			if !core.IsCode(err, tt.code) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, want %s … %s", err, tt.code, tt.says)
			}
			if s := err.Error(); strings.Contains(s, "hunter2") || strings.Contains(s, "sk-1") {
				t.Fatalf("the error shows a secret: %s", s)
			}
			if tt.code == core.CodeChannelConfig || tt.code == core.CodeChannelKey {
				if got := c.Check(&ch); !core.IsCode(got, tt.code) {
					t.Errorf("Check says %v", got)
				}
			}
		})
	}
	if err := c.Check(&core.Channel{ID: 3, Type: 33, Key: "k"}); !core.IsCode(err, core.CodeChannelConfig) || !strings.Contains(err.Error(), "no row") {
		t.Errorf("a type without a row: %v", err)
	}
	if err := c.Check(&core.Channel{ID: 3, Type: 1, Key: "k"}); err != nil {
		t.Errorf("a good channel: %v", err)
	}
}

func TestBadCatalogues(t *testing.T) {
	const good = "{type: 1, name: A, auth: bearer, formats: {openai: {path: /v1, operations: [chat]}}}"
	for _, tt := range []struct{ name, yaml, says string }{
		{"empty", "", "EOF"},
		{"no rows", "providers: []", "empty"},
		{"unknown key at the top", "providers: [" + good + "]\nmore: 1", "more"},
		{"unknown key in a row", "providers: [{type: 1, name: A, colour: red}]", "colour"},
		{"unknown key in a format", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {paht: /v1, operations: [chat]}}}]", "paht"},
		{"two documents", "providers: [" + good + "]\n---\nproviders: []", "more than one"},
		{"type", "providers: [{name: A, auth: bearer, formats: {openai: {operations: [chat]}}}]", "type"},
		{"type twice", "providers: [" + good + ", {type: 1, name: B, auth: bearer, formats: {openai: {operations: [chat]}}}]", "type: 1 occurs twice"},
		{"name twice", "providers: [" + good + ", {type: 2, name: A, auth: bearer, formats: {openai: {operations: [chat]}}}]", `name: "A"`},
		{"name", "providers: [{type: 1, auth: bearer, formats: {openai: {operations: [chat]}}}]", "name"},
		{"auth", "providers: [{type: 1, name: A, auth: basic, formats: {openai: {operations: [chat]}}}]", `formats.openai.auth: "basic"`},
		{"base_url", "providers: [{type: 1, name: A, base_url: h, auth: bearer, formats: {openai: {operations: [chat]}}}]", "base_url"},
		{"format", "providers: [{type: 1, name: A, auth: bearer, formats: {opnai: {operations: [chat]}}}]", "formats.opnai"},
		{"no format", "providers: [{type: 1, name: A, auth: bearer}]", "formats"},
		{"operation", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {operations: [chatt]}}}]", `"chatt" is no operation`},
		{"operation of another format", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {operations: [messages]}}}]", "belongs to format claude"},
		{"operation twice", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {operations: [chat, chat]}}}]", "occurs twice"},
		{"no operation", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {path: /v1}}}]", "operations"},
		{"path", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {path: v1, operations: [chat]}}}]", "formats.openai.path"},
		{"path's end", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {path: /v1/, operations: [chat]}}}]", "path"},
		{"place", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {path: '/{modell}', operations: [chat]}}}]", "modell"},
		{"query", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {query: 'a=b c', operations: [chat]}}}]", "query"},
		{"paths", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {operations: [chat], paths: {rerank: /r}}}}]", "paths.rerank"},
		{"header", "providers: [{type: 1, name: A, auth: bearer, formats: {openai: {operations: [chat], headers: {Cookie: x}}}}]", "headers.Cookie"},
		{"full_url with base", "providers: [{type: 1, name: A, base_url: 'https://h', full_url: true, auth: bearer, formats: {openai: {operations: [chat]}}}]", "full_url"},
		{"full_url with path", "providers: [{type: 1, name: A, full_url: true, auth: bearer, formats: {openai: {path: /v1, operations: [chat]}}}]", "full_url"},
		{"organization", "providers: [{type: 1, name: A, organization_header: 'a b', auth: bearer, formats: {openai: {operations: [chat]}}}]", "organization_header"},
		{"models", "providers: [{type: 1, name: A, models: m, auth: bearer, formats: {openai: {operations: [chat]}}}]", "models"},
		{"plan", "plans: {p: {openai: ftp://x}}\nproviders: [" + good + "]", "plans.p.openai"},
		{"plan's format", "plans: {p: {opnai: 'https://x'}}\nproviders: [" + good + "]", "plans.p.opnai"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load([]byte(tt.yaml))
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, want … %s", err, tt.says)
			}
		})
	}
}
