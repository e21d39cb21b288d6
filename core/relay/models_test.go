package relay

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/sluice-gateway/sluice/core"
)

func (r *rig) get(path string, change ...func(*http.Request)) *reply {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk-"+testKey)
	for _, f := range change {
		f(req)
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return &reply{t: r.t, Response: res, body: string(b), err: err}
}

func ids(t *testing.T, list any, key string) string {
	t.Helper()
	items, ok := list.([]any)
	if !ok {
		t.Fatalf("no list: %v", list)
	}
	out := ""
	for _, i := range items {
		out += fmt.Sprint(i.(map[string]any)[key]) + " "
	}
	return out
}

func modelsRig(t *testing.T) *rig {
	r := newRig(t)
	r.rows.Groups["vip"] = &core.Group{Name: "vip", Usable: true, HasRatio: true, Ratio: core.RatioOne}
	models := func(m ...string) func(*core.Channel) { return func(c *core.Channel) { c.Models = m } }
	r.channel(1, "http://127.0.0.1:1", models("gpt", "both"))
	r.channel(2, "http://127.0.0.1:1", models("claude", "both"), ofType(14))
	r.channel(3, "http://127.0.0.1:1", models("gemini"), ofType(24))
	r.channel(4, "http://127.0.0.1:1", models("vip-only"), inGroups("vip"))
	r.channel(5, "http://127.0.0.1:1", models("off"), func(c *core.Channel) { c.Status = core.ChannelDisabled })
	r.channel(6, "http://127.0.0.1:1", models("no-provider"), ofType(9999))
	return r
}

func TestModels(t *testing.T) {
	r := modelsRig(t)
	p := r.get("/v1/models").want(200)
	m := p.json()
	if m["success"] != true || m["object"] != "list" {
		t.Fatal(p.body)
	}
	if got := ids(t, m["data"], "id"); got != "both claude gemini gpt " {
		t.Fatal(got)
	}
	p.has(`"owned_by":"OpenAI"`, `"created":1626777600`, `"supported_endpoint_types":["openai","openai-response","anthropic"`)

	claude := []func(*http.Request){bareAuth(""), header("X-Api-Key", "sk-"+testKey), header("Anthropic-Version", "2023-06-01")}
	p = r.get("/v1/models", claude...).want(200)
	if got := ids(t, p.json()["data"], "id"); got != "both claude " {
		t.Fatal(got)
	}
	p.has(`"first_id":"both"`, `"last_id":"claude"`, `"has_more":false`, `"type":"model"`, `"created_at":`)

	for _, path := range []string{"/v1beta/models", "/v1beta/models?key=sk-" + testKey} {
		change := []func(*http.Request){bareAuth("")}
		if path == "/v1beta/models" {
			change = append(change, header("X-Goog-Api-Key", "sk-"+testKey))
		}
		p = r.get(path, change...).want(200)
		if got := ids(t, p.json()["models"], "name"); got != "models/gemini " {
			t.Fatal(path, got)
		}
		p.has(`"nextPageToken":null`, `"displayName":"gemini"`)
	}
}

func TestModelOne(t *testing.T) {
	r := modelsRig(t)
	r.get("/v1/models/gpt").want(200).has(`"id":"gpt"`, `"object":"model"`)
	r.get("/v1beta/models/gemini").want(200).has(`"name":"models/gemini"`, "streamGenerateContent")
	r.get("/v1/models/vip-only").want(404).has("model_not_found", "req-test")
	r.get("/v1beta/models/gpt").want(404).has(`"code":404`)
	r.get("/v1/models/off").want(404)
}

func TestModelsAreThoseOfTheToken(t *testing.T) {
	r := modelsRig(t)
	set := func(change func(*core.Token)) {
		tok := *r.tokens.keys[testKey].Token
		tok.LimitModels, tok.Models, tok.Group = false, nil, ""
		change(&tok)
		tok.Prepare()
		r.tokens.keys[testKey] = core.Credential{Token: &tok, User: r.tokens.keys[testKey].User}
	}
	set(func(k *core.Token) { k.LimitModels, k.Models = true, []string{"gpt", "vip-only"} })
	if got := ids(t, r.get("/v1/models").want(200).json()["data"], "id"); got != "gpt " {
		t.Fatal(got)
	}
	set(func(k *core.Token) { k.Group = "vip" })
	if got := ids(t, r.get("/v1/models").want(200).json()["data"], "id"); got != "vip-only " {
		t.Fatal(got)
	}
	r.rows.Options["AutoGroups"] = `["vip","default"]`
	r.rebuild()
	set(func(k *core.Token) { k.Group = core.GroupAuto })
	if got := ids(t, r.get("/v1/models").want(200).json()["data"], "id"); got != "both claude gemini gpt vip-only " {
		t.Fatal(got)
	}
	set(func(k *core.Token) { k.Group = "gone" })
	r.get("/v1/models").want(403).has("access_denied")
	r.get("/v1/models", bareAuth("")).want(401)
	r.get("/v1/models", bareAuth(""), header("X-Api-Key", "sk-x"), header("Anthropic-Version", "1")).want(401).has(`{"type":"error"`)
	if len(r.ledger.reserved) != 0 {
		t.Fatal("a list reserved money")
	}
}

func TestBeforeTheFirstSnapshot(t *testing.T) {
	r := newRig(t)
	r.snap.Store(nil)
	r.get("/v1/models").want(503)
	if p := r.post("/v1/chat/completions", chatBody).want(503); p.Header.Get("Retry-After") == "" {
		t.Fatal(p.Header)
	}
}
