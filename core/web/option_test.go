package web

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
)

// option reads one option from the list; "" and false where it is not listed.
func (m *managed) option(key string) (string, bool) {
	m.t.Helper()
	list := m.ok(core.RoleRoot, "GET", "/api/option/", "")
	v := list.Get(`#(key=="` + key + `").value`)
	return v.String(), v.Exists()
}

func TestOptions(t *testing.T) {
	m := manage(t)
	for _, tt := range []struct{ key, value, want string }{
		{"RetryTimes", `5`, "5"},
		{"RetryTimes", `"4"`, "4"},
		{"SelfUseModeEnabled", `true`, "true"},
		{"SystemName", `"Example <b>"`, "Example <b>"},
		{"Price", `7.25`, "7.25"},
		{"console_setting.announcements", `"[{\"a\":1}]"`, `[{"a":1}]`},
		{"SomethingUnknown", `"kept"`, "kept"},
		{"Notice", `""`, ""},
	} {
		m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"`+tt.key+`","value":`+tt.value+`}`)
		if got, ok := m.option(tt.key); got != tt.want || !ok {
			t.Errorf("%s = %s: listed %t as %q", tt.key, tt.value, ok, got)
		}
	}
	if got, _ := m.option("PreConsumedQuota"); got != "500" {
		t.Errorf("default of PreConsumedQuota: %q", got)
	}
	for _, secret := range []string{"SMTPToken", "GitHubClientSecret", "EpayKey", "oidc.client_secret", "x.api_key"} {
		m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"`+secret+`","value":"canary-option-secret"}`)
	}
	_, list := m.do(core.RoleRoot, "GET", "/api/option", "")
	if strings.Contains(list, "canary-option-secret") || strings.Contains(list, "SMTPToken") {
		t.Error("a secret is listed")
	}
	for body, param := range map[string]string{
		`{"key":"RetryTimes","value":"many"}`:            "RetryTimes",
		`{"key":"RetryTimes","value":-1}`:                "RetryTimes",
		`{"key":"SelfUseModeEnabled","value":"perhaps"}`: "SelfUseModeEnabled",
		`{"key":"ModelRatio","value":"{\"a\":-1}"}`:      "ModelRatio",
		`{"key":"ModelRatio","value":"[]"}`:              "ModelRatio",
		`{"key":"GroupRatio","value":"{\"a\":\"b\"}"}`:   "GroupRatio",
		`{"key":"Chats","value":{"a":1}}`:                "value",
		`{"key":"Chats"}`:                                "value",
		`{"key":"CompletionRatioMeta","value":"{}"}`:     "key",
		`{"value":"x"}`:                                  "key",
	} {
		if message, got := m.refused(core.RoleRoot, "PUT", "/api/option/", body); got != param || !strings.Contains(message, param) {
			t.Errorf("%s: param %q, message %q", body, got, message)
		}
	}
}

func TestPriceOptions(t *testing.T) {
	m := manage(t)
	check := func(key, want string) {
		t.Helper()
		got, _ := m.option(key)
		sameJSON(t, got, want)
	}
	check("ModelRatio", `{"gpt-4o":1.25,"gpt-5*":0.625}`)
	check("ModelPrice", `{"dall-e-3":0.04}`)
	m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"ModelRatio","value":"{\"gpt-4o\":2,\"own\":0.075}"}`)
	check("ModelRatio", `{"gpt-4o":2,"own":0.075}`)
	m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"CompletionRatio","value":"{\"own\":3}"}`)
	check("ModelRatio", `{"gpt-4o":2,"own":0.075}`)
	meta, _ := m.option("CompletionRatioMeta")
	sameJSON(t, gjson.Get(meta, "own").Raw, `{"ratio":3,"locked":false}`)
	p, ok := m.snap.Load().Price("own")
	if !ok || p.Ratio.String() != "0.075" || p.Completion.String() != "3" {
		t.Errorf("price %+v", p)
	}
	m.ok(core.RoleRoot, "POST", "/api/option/rest_model_ratio", "")
	check("ModelRatio", `{"gpt-4o":1.25,"gpt-5*":0.625}`)
	check("CompletionRatio", `{"gpt-5*":8,"own":3}`) // what is locked stays
}

func TestGroupOptions(t *testing.T) {
	m := manage(t)
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/group/", "").Raw, `["default"]`)
	for key, value := range map[string]string{
		"GroupRatio":       `{"default":1,"vip":0.5}`,
		"UserUsableGroups": `{"default":"everyone","vip":"friends"}`,
		"GroupGroupRatio":  `{"vip":{"default":0.9}}`,
	} {
		m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"`+key+`","value":"`+strings.ReplaceAll(value, `"`, `\"`)+`"}`)
		got, _ := m.option(key)
		sameJSON(t, got, value)
	}
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/group", "").Raw, `["default","vip"]`)
	if r, special := m.snap.Load().GroupRatio("vip", "default"); r.String() != "0.9" || !special {
		t.Errorf("ratio %s, special %t", r, special)
	}
}

func TestOptionTexts(t *testing.T) {
	m := manage(t)
	for path, key := range map[string]string{
		"/api/notice": "Notice", "/api/about": "About", "/api/home_page_content": "HomePageContent",
		"/api/user-agreement": "legal.user_agreement", "/api/privacy-policy": "legal.privacy_policy",
	} {
		if text := m.ok(core.RoleGuest, "GET", path, ""); text.String() != "" || text.Type != gjson.String {
			t.Errorf("%s: %s", path, text.Raw)
		}
		m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"`+key+`","value":"# text of `+key+`"}`)
		if text := m.ok(core.RoleGuest, "GET", path, "").String(); text != "# text of "+key {
			t.Errorf("%s: %s", path, text)
		}
	}
}

func TestSelftest(t *testing.T) {
	m := manage(t)
	status, body := m.do(core.RoleAdmin, "GET", "/api/status/test", "")
	if status != 200 || !gjson.Get(body, "success").Bool() || !gjson.Get(body, "http_stats").IsObject() {
		t.Errorf("%d %s", status, body)
	}
}

func TestAuditList(t *testing.T) {
	m := manage(t)
	m.ok(core.RoleRoot, "PUT", "/api/option/", `{"key":"RetryTimes","value":3}`)
	page := m.ok(core.RoleRoot, "GET", "/api/audit?page_size=1", "")
	a := page.Get("items.0")
	if a.Get("kind").String() != "option" || a.Get("entity").String() != "RetryTimes" || a.Get("op").String() != "put" || a.Get("user_id").Int() != m.user[core.RoleRoot].ID ||
		a.Get("route").String() != "PUT /api/option/" || a.Get("revision").Int() != int64(m.snap.Load().Revision) || page.Get("total").Int() < 2 {
		t.Error(page.Raw)
	}
	if status, _ := m.do(core.RoleAdmin, "GET", "/api/audit/", ""); status != 403 {
		t.Errorf("status %d", status)
	}
}
