package relay

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

func bareAuth(value string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del("Authorization")
		if value != "" {
			r.Header.Set("Authorization", value)
		}
	}
}

func TestCredentialForms(t *testing.T) {
	r := newRig(t)
	r.upstream(1, "")
	r.upstream(2, "", ofType(14))
	r.upstream(3, "", ofType(24))
	const claudeBody = `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`
	const geminiBody = `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`
	key := "sk-" + testKey
	for _, c := range []struct {
		name, path, body string
		change           []func(*http.Request)
		status           int
	}{
		{"bearer", "/v1/chat/completions", chatBody, nil, 200},
		{"bearer in lower case", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth("bearer " + key)}, 200},
		{"bare", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth(key)}, 200},
		{"without sk-", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth("Bearer " + testKey)}, 200},
		{"websocket protocol wins", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth("Bearer wrong"), header("Sec-WebSocket-Protocol", "realtime, openai-insecure-api-key."+key+", openai-beta.realtime-v1")}, 200},
		{"x-api-key is for messages", "/v1/messages", claudeBody, []func(*http.Request){bareAuth(""), header("X-Api-Key", key)}, 200},
		{"x-api-key wins over authorization", "/v1/messages", claudeBody, []func(*http.Request){bareAuth("Bearer wrong"), header("X-Api-Key", key)}, 200},
		{"authorization on messages", "/v1/messages", claudeBody, nil, 200},
		{"x-api-key elsewhere", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth(""), header("X-Api-Key", key)}, 401},
		{"x-goog-api-key", "/v1beta/models/m:generateContent", geminiBody, []func(*http.Request){bareAuth(""), header("X-Goog-Api-Key", key)}, 200},
		{"query key", "/v1beta/models/m:generateContent?key=" + key, geminiBody, []func(*http.Request){bareAuth("")}, 200},
		{"header wins over query", "/v1beta/models/m:generateContent?key=wrong", geminiBody, []func(*http.Request){bareAuth(""), header("X-Goog-Api-Key", key)}, 200},
		{"query key elsewhere", "/v1/chat/completions?key=" + key, chatBody, []func(*http.Request){bareAuth("")}, 401},
		{"mj-api-secret", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth("midjourney-proxy"), header("Mj-Api-Secret", key)}, 200},
		{"mj-api-secret alone", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth(""), header("Mj-Api-Secret", key)}, 200},
		{"none", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth("")}, 401},
		{"unknown", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth("Bearer sk-nobody")}, 401},
		{"too long", "/v1/chat/completions", chatBody, []func(*http.Request){bareAuth("Bearer " + strings.Repeat("a", 600))}, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.post(c.path, c.body, c.change...)
			p.t = t
			p.want(c.status)
		})
	}
}

func TestTokenStates(t *testing.T) {
	past, future := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	for _, c := range []struct {
		name   string
		change func(tok *core.Token, u *core.User)
		status int
		has    string
	}{
		{"disabled", func(k *core.Token, _ *core.User) { k.Status = core.TokenDisabled }, 401, "disabled"},
		{"expired", func(k *core.Token, _ *core.User) { k.ExpiresAt = past }, 401, "expired"},
		{"not yet expired", func(k *core.Token, _ *core.User) { k.ExpiresAt = future }, 200, ""},
		{"user disabled", func(_ *core.Token, u *core.User) { u.Status = core.UserDisabled }, 403, "user_disabled"},
		{"address", func(k *core.Token, _ *core.User) {
			k.AllowIPs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		}, 403, "access_denied"},
		{"address allowed", func(k *core.Token, _ *core.User) { k.AllowIPs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, 200, ""},
		{"model limit", func(k *core.Token, _ *core.User) { k.LimitModels, k.Models = true, []string{"other"} }, 403, "model_not_allowed"},
		{"model allowed", func(k *core.Token, _ *core.User) { k.LimitModels, k.Models = true, []string{"m"} }, 200, ""},
		{"group not usable", func(k *core.Token, _ *core.User) { k.Group = "secret" }, 403, "access_denied"},
		{"group deprecated", func(k *core.Token, _ *core.User) { k.Group = "old" }, 403, "no longer offered"},
		{"group usable", func(k *core.Token, _ *core.User) { k.Group = "vip" }, 200, ""},
		{"group without channel", func(k *core.Token, _ *core.User) { k.Group = "empty" }, 503, "model_not_found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.rows.Groups["secret"] = &core.Group{Name: "secret", HasRatio: true, Ratio: core.RatioOne}
			r.rows.Groups["old"] = &core.Group{Name: "old", Usable: true}
			r.rows.Groups["vip"] = &core.Group{Name: "vip", Usable: true, HasRatio: true, Ratio: core.RatioOne}
			r.rows.Groups["empty"] = &core.Group{Name: "empty", Usable: true, HasRatio: true, Ratio: core.RatioOne}
			up := r.upstream(1, "", inGroups("default", "vip", "secret", "old"))
			cred := r.tokens.keys[testKey]
			tok, user := *cred.Token, *cred.User
			c.change(&tok, &user)
			tok.Prepare()
			r.tokens.keys[testKey] = core.Credential{Token: &tok, User: &user}
			p := r.post("/v1/chat/completions", chatBody).want(c.status)
			if c.status != 200 {
				p.has(c.has, "req-test")
				if n := up.Stats().Calls; n != 0 {
					t.Fatalf("upstream was called %d times", n)
				}
			}
		})
	}
}

func TestAuthenticateReturnsKnownCredential(t *testing.T) {
	r := newRig(t)
	tok := *r.tokens.keys[testKey].Token
	tok.ExpiresAt = time.Now().Add(-time.Second)
	r.tokens.keys[testKey] = core.Credential{Token: &tok, User: r.tokens.keys[testKey].User}
	req, _ := http.NewRequest(http.MethodGet, "http://x/api/usage/token", nil)
	req.Header.Set("Authorization", "sk-"+testKey)
	cred, _, err := r.relay.Authenticate(req)
	if !core.IsCode(err, core.CodeUnauthorized) || cred.Token != &tok {
		t.Fatal(cred, err)
	}
}

func TestStoreAwayAtLookup(t *testing.T) {
	r := newRig(t)
	r.upstream(1, "")
	r.tokens.OnLookup = func(string) error {
		return &core.Error{Code: core.CodeStoreUnavailable, Message: "away", RetryAfter: 3 * time.Second}
	}
	p := r.post("/v1/chat/completions", chatBody).want(503)
	if p.Header.Get("Retry-After") != "3" || p.Header.Get("X-Should-Retry") != "true" {
		t.Fatal(p.Header)
	}
}

func TestPinnedChannel(t *testing.T) {
	r := newRig(t)
	r.upstream(1, "", priority(10))
	two := r.upstream(2, `{"status":500}`)
	three := r.upstream(3, "", func(c *core.Channel) { c.Status = core.ChannelDisabled })
	as := func(key string) func(*http.Request) { return bareAuth("Bearer " + key) }

	r.post("/v1/chat/completions", chatBody, as("sk-"+testKey+"-2")).want(403).has("access_denied")
	// The pinned channel fails: no other one is tried.
	r.post("/v1/chat/completions", chatBody, as("sk-"+adminKey+"-2")).want(500)
	if n := two.Stats().Calls; n != 1 {
		t.Fatalf("calls %d", n)
	}
	r.post("/v1/chat/completions", chatBody, as("sk-"+adminKey+"-1")).want(200)
	r.post("/v1/chat/completions", chatBody, as("sk-"+adminKey+"-3")).want(403).has("disabled")
	r.post("/v1/chat/completions", chatBody, as("sk-"+adminKey+"-99")).want(400)
	r.post("/v1/chat/completions", chatBody, as("sk-"+adminKey+"-x")).want(400)
	if n := three.Stats().Calls; n != 0 {
		t.Fatalf("calls %d", n)
	}
	r.money(1, 1)
}

func FuzzCredential(f *testing.F) {
	f.Add("Bearer sk-abc-12", "realtime, openai-insecure-api-key.sk-x")
	f.Fuzz(func(t *testing.T, auth, ws string) {
		key, channel := splitKey(bare(auth))
		if strings.Contains(key, "-") && key != "" {
			t.Fatalf("%q: key %q", auth, key)
		}
		_ = channel
		if k := websocketKey(ws); k != "" && !strings.Contains(ws, wsKeyPrefix) {
			t.Fatalf("%q gave %q", ws, k)
		}
	})
}
