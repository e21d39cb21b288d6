package web

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
)

func (m *managed) offer() {
	m.t.Helper()
	for key, value := range map[string]string{"GroupRatio": `{\"default\":1,\"vip\":0.5,\"staff\":0.1}`, "UserUsableGroups": `{\"default\":\"everyone\",\"vip\":\"friends\"}`} {
		m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"`+key+`","value":"`+value+`"}`)
	}
	m.createChannel(`"name":"a","models":"gpt-4o,dall-e-3,unpriced","group":"default,vip,staff"`)
	m.createChannel(`"name":"b","models":"gpt-5-mini","group":"staff"`)
	m.createChannel(`"name":"c","models":"off","status":2`)
	m.ok(core.RoleAdmin, "POST", "/api/channel/", `{"type":14,"key":"k","name":"d","models":"gpt-4o","group":"vip"}`)
}

func TestPricing(t *testing.T) {
	m := manage(t)
	m.offer()
	status, body := m.do(core.RoleUser, "GET", "/api/pricing", "")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	snap := m.snap.Load()
	sameJSON(t, body, fmt.Sprintf(`{"success":true,"data":[
		{"model_name":"dall-e-3","quota_type":1,"model_ratio":0,"model_price":0.04,"owner_by":"","completion_ratio":1,"enable_groups":["default","vip"],"supported_endpoint_types":["image-generation"]},
		{"model_name":"gpt-4o","quota_type":0,"model_ratio":1.25,"model_price":0,"owner_by":"","completion_ratio":4,"cache_ratio":0.5,"enable_groups":["default","vip"],
			"supported_endpoint_types":["openai","openai-response","anthropic"]}],
		"vendors":[],"group_ratio":{"default":1,"vip":0.5},"usable_group":{"default":"everyone","vip":"friends"},
		"supported_endpoint":{"anthropic":{"path":"/v1/messages","method":"POST"},"image-generation":{"path":"/v1/images/generations","method":"POST"},
			"openai":{"path":"/v1/chat/completions","method":"POST"},"openai-response":{"path":"/v1/responses","method":"POST"}},
		"auto_groups":["default"],"pricing_version":"%s-%d"}`, snap.Epoch, snap.Revision))
	_, guest := m.do(core.RoleGuest, "GET", "/api/pricing", "")
	sameJSON(t, guest, body)
	m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"SelfUseModeEnabled","value":true}`)
	_, body = m.do(core.RoleGuest, "GET", "/api/pricing", "")
	if r := gjson.Get(body, `data.#(model_name=="unpriced").model_ratio`).Raw; r != "37.5" {
		t.Errorf("ratio %s", r)
	}
	m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"HeaderNavModules","value":"{\"pricing\":{\"enabled\":true,\"requireAuth\":true}}"}`)
	if status, _ := m.do(core.RoleGuest, "GET", "/api/pricing", ""); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
	if status, _ := m.do(core.RoleUser, "GET", "/api/pricing", ""); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

func TestRatioConfig(t *testing.T) {
	m := manage(t)
	if status, body := m.do(core.RoleGuest, "GET", "/api/ratio_config", ""); status != http.StatusForbidden || gjson.Get(body, "success").Bool() {
		t.Errorf("%d %s", status, body)
	}
	m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"ExposeRatioEnabled","value":true}`)
	sameJSON(t, m.ok(core.RoleGuest, "GET", "/api/ratio_config", "").Raw, `{"cache_ratio":{"gpt-4o":0.5},"completion_ratio":{"gpt-4o":4},"create_cache_ratio":{},
		"model_price":{"dall-e-3":0.04},"model_ratio":{"gpt-4o":1.25}}`)
}

func TestModelsByType(t *testing.T) {
	m := manage(t)
	m.offer()
	sameJSON(t, m.ok(core.RoleUser, "GET", "/api/models", "").Raw, `{"1":["dall-e-3","gpt-4o","unpriced"],"14":["gpt-4o"]}`)
	if status, _ := m.do(core.RoleGuest, "GET", "/api/models", ""); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
}
