package provider

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

func channel(t testing.TB, typ int, override string) *core.Channel {
	t.Helper()
	ch := &core.Channel{ID: 5, Type: typ, Key: "sk-up", HeaderOverride: override, BaseURL: "http://h"}
	if err := ch.Prepare(); err != nil {
		t.Fatal(err)
	}
	return ch
}

func request(t testing.TB, c *Catalogue, ch *core.Channel, op llm.Operation, stream bool, client http.Header, forward ...string) *http.Request {
	t.Helper()
	req, err := row(t, c, ch.Type).Request(context.Background(), ch, op, "m", stream, "", []byte(`{"a":1}`), "application/json", client, forward)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// hostile is everything that a client may send and that must stay here.
func hostile() http.Header {
	h := http.Header{}
	for _, name := range []string{
		"Authorization", "Cookie", "X-Api-Key", "X-Goog-Api-Key", "Api-Key", "Mj-Api-Secret", "New-Api-User", "X-Goog-Fieldmask",
		"Proxy-Authorization", "Proxy-Connection", "Proxy-Anything",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything", "Forwarded", "X-Real-Ip", "Via", "Cf-Connecting-Ip",
		"Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Http2-Settings",
		"Host", "Content-Length", "Content-Encoding", "Accept-Encoding",
		"Sec-Websocket-Key", "Sec-Websocket-Protocol", "X-Sluice-Anything",
	} {
		h.Set(name, "client-"+name)
	}
	h.Set("Connection", "keep-alive, X-Listed , close,Anthropic-Listed")
	h.Set("X-Listed", "client-listed")
	h.Set("Anthropic-Listed", "client-listed")
	h.Set("User-Agent", "client-agent")
	h.Set("X-Good", "client-good")
	h.Set("Anthropic-Beta", "client-beta")
	return h
}

func TestNothingOfTheClientPasses(t *testing.T) {
	c := load(t)
	for _, tt := range []struct {
		name, override string
		forward        []string
		passes         []string // values of the client that may
	}{
		{"nothing asked", "", nil, nil},
		{"vendor's names", "", []string{"Anthropic-*", "X-Good"}, []string{"client-beta", "client-good"}},
		{"everything asked by the vendor", "", []string{"*"}, []string{"client-agent", "client-beta", "client-good"}},
		{"all", `{"*":""}`, nil, []string{"client-agent", "client-beta", "client-good"}},
		{"regexp", `{"re:.":"","regex:^x-":""}`, nil, []string{"client-agent", "client-beta", "client-good"}},
		{"one regexp", `{"re:^x-g":""}`, nil, []string{"client-good"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, typ := range []int{1, 14, 24} {
				op := map[int]llm.Operation{1: llm.OpChat, 14: llm.OpMessages, 24: llm.OpGenerate}[typ]
				req := request(t, c, channel(t, typ, tt.override), op, false, hostile(), tt.forward...)
				var got []string
				for name, values := range req.Header {
					for _, v := range values {
						if strings.HasPrefix(v, "client-") {
							got = append(got, v)
						}
						if forbidden(name) && name != "Authorization" && name != "X-Api-Key" && name != "X-Goog-Api-Key" && name != "Content-Type" && name != "Accept-Encoding" {
							t.Errorf("type %d: %s reaches upstream", typ, name)
						}
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.passes) {
					t.Errorf("type %d: of the client pass %v, want %v", typ, got, tt.passes)
				}
				if req.Host != "h" {
					t.Errorf("host %q", req.Host)
				}
				if v := req.Header["Accept-Encoding"]; len(v) != 1 || v[0] != "identity" {
					t.Errorf("Accept-Encoding %q", v)
				}
			}
		})
	}
}

func TestClientQuery(t *testing.T) {
	for in, want := range map[string]string{
		"alt=sse&prettyPrint=false": "alt=sse&prettyPrint=false",
		"alt=json":                  "alt=json",
		"beta=true":                 "beta=true",
		"key=k&KEY=k&%6bey=k&access_token=a&oauth_token=a":          "",
		"fields=candidates&$fields=candidates&%24fields=x&Fields=x": "",
		"alt=proto&$alt=media&alt=s%73e&alt&callback=f&$callback=f": "",
	} {
		if got := joinQuery("", in); got != want {
			t.Errorf("%s: %q", in, got)
		}
	}
	if got := joinQuery("alt=sse", "alt=json&fields=x&a=b"); got != "alt=sse&a=b" {
		t.Error(got)
	}
}

func TestOwnHeaders(t *testing.T) {
	c := load(t)
	c.UserAgent = "sluice/1.2.3"
	for _, tt := range []struct {
		name   string
		typ    int
		op     llm.Operation
		stream bool
		client http.Header
		want   map[string]string
	}{
		{"openai", 1, llm.OpChat, false, nil, map[string]string{"Authorization": "Bearer sk-up", "User-Agent": "sluice/1.2.3", "Content-Type": "application/json", "Openai-Organization": "org-1", "Accept-Encoding": "identity"}},
		{"openai stream", 1, llm.OpChat, true, nil, map[string]string{"Authorization": "Bearer sk-up", "User-Agent": "sluice/1.2.3", "Content-Type": "application/json", "Openai-Organization": "org-1", "Accept-Encoding": "identity", "Accept": "text/event-stream"}},
		{"claude", 14, llm.OpMessages, false, nil, map[string]string{"X-Api-Key": "sk-up", "Anthropic-Version": "2023-06-01", "User-Agent": "sluice/1.2.3", "Content-Type": "application/json", "Accept-Encoding": "identity"}},
		{"claude with a version", 14, llm.OpMessages, false, http.Header{"Anthropic-Version": {"2099-01-01"}, "Anthropic-Beta": {"a", "b"}}, map[string]string{"X-Api-Key": "sk-up", "Anthropic-Version": "2099-01-01", "Anthropic-Beta": "a|b", "User-Agent": "sluice/1.2.3", "Content-Type": "application/json", "Accept-Encoding": "identity"}},
		{"gemini", 24, llm.OpStreamGenerate, true, nil, map[string]string{"X-Goog-Api-Key": "sk-up", "User-Agent": "sluice/1.2.3", "Content-Type": "application/json", "Accept-Encoding": "identity"}},
		{"azure", 3, llm.OpChat, false, nil, map[string]string{"Api-Key": "sk-up", "User-Agent": "sluice/1.2.3", "Content-Type": "application/json", "Accept-Encoding": "identity"}},
		{"deepseek's claude path", 43, llm.OpMessages, false, nil, map[string]string{"X-Api-Key": "sk-up", "Anthropic-Version": "2023-06-01", "User-Agent": "sluice/1.2.3", "Content-Type": "application/json", "Accept-Encoding": "identity"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ch := channel(t, tt.typ, "")
			ch.Organization = "org-1"
			req := request(t, c, ch, tt.op, tt.stream, tt.client, "Anthropic-*")
			got := map[string]string{}
			for name, v := range req.Header {
				got[name] = strings.Join(v, "|")
			}
			for name, v := range tt.want {
				if got[name] != v {
					t.Errorf("%s: %q, want %q", name, got[name], v)
				}
				delete(got, name)
			}
			if len(got) > 0 {
				t.Errorf("and too much: %v", got)
			}
			if req.Method != http.MethodPost || req.ContentLength != 7 {
				t.Errorf("%s with %d bytes", req.Method, req.ContentLength)
			}
			body, err := io.ReadAll(req.Body)
			if err != nil || string(body) != `{"a":1}` {
				t.Errorf("body %q, %v", body, err)
			}
		})
	}
}

func TestHeaderOverride(t *testing.T) {
	c := load(t)
	client := http.Header{"X-Trace": {"t1"}, "X-Other": {"o1"}, "User-Agent": {"client"}, "Connection": {"X-Hop"}, "X-Hop": {"h"}, "X-Bad": {"a\nb"}}
	for _, tt := range []struct{ name, override, header, want string }{
		{"plain", `{"X-A":"1"}`, "X-A", "1"},
		{"letter case", `{"x-a":"1"}`, "X-A", "1"},
		{"key", `{"X-A":"k={api_key};{api_key}"}`, "X-A", "k=sk-up;sk-up"},
		{"own way to authenticate", `{"Authorization":"Token {api_key}"}`, "Authorization", "Token sk-up"},
		{"without authentication", `{"Authorization":""}`, "Authorization", ""},
		{"client's", `{"X-A":"{client_header:x-trace}"}`, "X-A", "t1"},
		{"client's absent", `{"X-A":"{client_header:X-Nope}"}`, "X-A", ""},
		{"client's absent keeps the default", `{"User-Agent":"{client_header:X-Nope}"}`, "User-Agent", "sluice"},
		{"client's agent", `{"User-Agent":"{client_header:User-Agent}"}`, "User-Agent", "client"},
		{"client's, not exactly", `{"X-A":"a{client_header:X-Trace}"}`, "X-A", "a{client_header:X-Trace}"},
		{"client's hop-by-hop", `{"X-A":"{client_header:X-Hop}"}`, "X-A", ""},
		{"client's with a line end", `{"X-A":"{client_header:X-Bad}"}`, "X-A", ""},
		{"all", `{"*":""}`, "X-Other", "o1"},
		{"all but the bad", `{"*":""}`, "X-Bad", ""},
		{"all but hop-by-hop", `{"*":""}`, "X-Hop", ""},
		{"the operator has the last word", `{"*":"","X-Other":"mine"}`, "X-Other", "mine"},
		{"regexp", `{"re:^X-T":""}`, "X-Trace", "t1"},
		{"regexp in any case", `{"regex:^x-t":""}`, "X-Trace", "t1"},
		{"regexp that does not match", `{"re:^T":""}`, "X-Trace", ""},
		{"encoding is the gateway's", `{"Accept-Encoding":"gzip"}`, "Accept-Encoding", "identity"},
		{"hop-by-hop is the transport's", `{"Connection":"close"}`, "Connection", ""},
		{"length is the transport's", `{"Content-Length":"5"}`, "Content-Length", ""},
		{"no agent", `{"User-Agent":""}`, "User-Agent", ""},
		{"type", `{"Content-Type":"text/plain"}`, "Content-Type", "text/plain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := request(t, c, channel(t, 1, tt.override), llm.OpChat, false, client)
			if got := req.Header.Get(tt.header); got != tt.want {
				t.Errorf("%s: %q, want %q", tt.header, got, tt.want)
			}
		})
	}
	if req := request(t, c, channel(t, 1, `{"Host":"inner.example:81"}`), llm.OpChat, false, nil); req.Host != "inner.example:81" || req.URL.Host != "h" {
		t.Errorf("Host %q to %q", req.Host, req.URL.Host)
	}
	if req := request(t, c, channel(t, 1, `{"Host":"a/b"}`), llm.OpChat, false, nil); req.Host != "h" {
		t.Errorf("Host %q", req.Host)
	}
}

func TestSeveralKeys(t *testing.T) {
	c := load(t)
	ch := channel(t, 1, "")
	ch.Key = " sk-a \r\n\nsk-b\nsk-c"
	var asked []int
	n := 0
	c.Pick = func(k int) int { asked = append(asked, k); n++; return (n - 1) % k }
	var got []string
	for range 4 {
		got = append(got, request(t, c, ch, llm.OpChat, false, nil).Header.Get("Authorization"))
	}
	if want := []string{"Bearer sk-a", "Bearer sk-b", "Bearer sk-c", "Bearer sk-a"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if !slices.Equal(asked, []int{3, 3, 3, 3}) {
		t.Errorf("drawn among %v", asked)
	}
	ollama := channel(t, 4, "")
	ollama.Key = ""
	if v, ok := request(t, c, ollama, llm.OpChat, false, nil).Header["Authorization"]; ok {
		t.Errorf("without a key: %q", v)
	}
}

// TestChannelChanges holds that what was read of a channel does not outlive it.
func TestChannelChanges(t *testing.T) {
	c := load(t)
	ch := channel(t, 1, `{"X-A":"1"}`)
	first := request(t, c, ch, llm.OpChat, false, nil)
	next := *ch
	next.Key, next.BaseURL, next.HeaderOverride = "sk-new", "http://new", `{"X-A":"2"}`
	if err := next.Prepare(); err != nil {
		t.Fatal(err)
	}
	second := request(t, c, &next, llm.OpChat, false, nil)
	if first.URL.Host != "h" || first.Header.Get("X-A") != "1" || first.Header.Get("Authorization") != "Bearer sk-up" {
		t.Errorf("first: %v %v", first.URL, first.Header)
	}
	if second.URL.Host != "new" || second.Header.Get("X-A") != "2" || second.Header.Get("Authorization") != "Bearer sk-new" {
		t.Errorf("second: %v %v", second.URL, second.Header)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.prepared) != 1 {
		t.Errorf("%d kept", len(c.prepared))
	}
}

func TestReplay(t *testing.T) {
	c := load(t)
	if req := request(t, c, channel(t, 1, ""), llm.OpChat, false, nil); req.GetBody == nil {
		t.Error("a connection that died while idle cannot be replaced")
	}
	// With such a header net/http would send a request again that upstream may have seen.
	h := http.Header{"Idempotency-Key": {"x"}}
	if req := request(t, c, channel(t, 1, ""), llm.OpChat, false, h, "Idempotency-Key"); req.GetBody != nil {
		t.Error("a request with an idempotency key could be replayed")
	}
}

func FuzzURL(f *testing.F) {
	c := load(f)
	f.Add("https://api.openai.com/v1/", "gpt-4o", "alt=sse&key=1", "v1beta", 24)
	f.Add("http://[::1]:80", "a/../b", "%6bey=1;key=2", "", 3)
	f.Add("http://h/{model}?x={model}", "a%2fb", "a=b#c", "x", 8)
	f.Add("http://h\\@evil/", "", "k ey=1\r\n", "..", 1)
	ops := map[int]llm.Operation{1: llm.OpChat, 3: llm.OpChat, 8: llm.OpChat, 14: llm.OpMessages, 24: llm.OpGenerate, 39: llm.OpChat}
	f.Fuzz(func(t *testing.T, base, model, query, other string, typ int) {
		op, ok := ops[typ]
		if !ok {
			return
		}
		ch := &core.Channel{Type: typ, Key: "k", BaseURL: base, Other: other}
		req, err := row(t, c, typ).Request(context.Background(), ch, op, model, false, query, []byte("x"), "", nil, nil)
		if err != nil {
			if e := core.AsError(err); e.Code == core.CodeInternal {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		// What goes over the wire must read back as what was meant.
		u, err := url.Parse(req.URL.String())
		if err != nil {
			t.Fatalf("%q does not parse: %v", req.URL, err)
		}
		if u.Host != req.URL.Host || u.Scheme != req.URL.Scheme || u.User != nil || u.Fragment != "" {
			t.Fatalf("%q reads back as another place", req.URL)
		}
		if line := req.URL.RequestURI(); strings.ContainsAny(line, " \r\n\t\x00") {
			t.Fatalf("request line %q", line)
		}
		if typ != 8 {
			for name := range u.Query() {
				if strings.EqualFold(name, "key") {
					t.Fatalf("the client's key passes: %q", req.URL)
				}
			}
			for seg := range strings.SplitSeq(strings.TrimPrefix(u.Path, pathOf(base)), "/") {
				if seg == ".." {
					t.Fatalf("%q leads elsewhere", req.URL)
				}
			}
		}
		var line bytes.Buffer
		if err := req.Write(&line); err != nil {
			t.Fatalf("%q cannot be sent: %v", req.URL, err)
		}
	})
}

// pathOf is the operator's own part of the path, dots and all.
func pathOf(base string) string {
	u, err := url.Parse(strings.TrimSpace(base))
	if err != nil {
		return ""
	}
	return strings.TrimRight(u.Path, "/")
}

func FuzzHeaderOverride(f *testing.F) {
	c := load(f)
	f.Add("X-A", "{api_key}", "X-B", "v")
	f.Add("re:.*", "", "Authorization", "Bearer x")
	f.Add("Host", "a\r\nb", "Cookie", "c")
	f.Fuzz(func(t *testing.T, name, value, clientName, clientValue string) {
		ch := &core.Channel{Type: 1, Key: "sk-up", BaseURL: "http://h"}
		ch.Parsed.Headers = map[string]string{name: value}
		client := http.Header{clientName: {clientValue}}
		req, err := row(t, c, 1).Request(context.Background(), ch, llm.OpChat, "m", false, "", []byte("x"), "", client, nil)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := req.Write(&b); err != nil {
			t.Fatalf("cannot be sent: %v", err)
		}
		head, _, _ := strings.Cut(b.String(), "\r\n\r\n")
		if n := strings.Count(head, "\r\n"); n != len(req.Header)+2-boolInt(req.Header.Get("User-Agent") == "" && req.Header["User-Agent"] != nil) {
			t.Fatalf("%d lines of %d headers:\n%s", n, len(req.Header), head)
		}
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func BenchmarkRequest(b *testing.B) {
	c := load(b)
	ch := channel(b, 1, "")
	r := row(b, c, 1)
	body := bytes.Repeat([]byte("x"), 1024)
	client := http.Header{"Accept": {"*/*"}, "Authorization": {"Bearer sk-x"}, "Content-Type": {"application/json"}, "User-Agent": {"openai-python/1"}, "X-Stainless-Lang": {"python"}, "Openai-Beta": {"x"}}
	forward := []string{"OpenAI-*"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Request(context.Background(), ch, llm.OpChat, "m", false, "", body, "application/json", client, forward); err != nil {
			b.Fatal(err)
		}
	}
}
