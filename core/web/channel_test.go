package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

const canaryKey = "sk-canary-0123456789abcdef0123456789"

func (m *managed) createChannel(fields string) int64 {
	m.t.Helper()
	m.ok(core.RoleAdmin, "POST", "/api/channel/", `{"mode":"single","channel":{"type":1,"key":"`+canaryKey+`",`+fields+`}}`)
	return m.ok(core.RoleAdmin, "GET", "/api/channel/?id_sort=true", "").Get("items.0.id").Int()
}

func TestChannelShape(t *testing.T) {
	m := manage(t)
	id := m.createChannel(`"name":"main","models":"gpt-4o, gpt-4o-mini,gpt-4o","group":"default,vip","priority":7,"weight":3,"base_url":"https://up.example/","tag":"eu",
		"model_mapping":"{\"gpt-4o\":\"gpt-4o-2024\"}","setting":"{\"proxy\":\"socks5://bob:hidden-proxy-pass@proxy.example:1080\"}","remark":"r","auto_ban":0`)
	want := fmt.Sprintf(`{"id":%d,"type":1,"openai_organization":"","test_model":"","status":1,"name":"main","weight":3,"created_time":1800000000,"test_time":0,
		"response_time":0,"base_url":"https://up.example","other":"","balance":0,"balance_updated_time":0,"models":"gpt-4o,gpt-4o-mini","group":"default,vip",
		"used_quota":0,"model_mapping":"{\"gpt-4o\":\"gpt-4o-2024\"}","status_code_mapping":"","priority":7,"auto_ban":0,"other_info":"","tag":"eu",
		"setting":"{\"proxy\":\"socks5://bob:__hidden__@proxy.example:1080\"}","param_override":"","header_override":"","remark":"r",
		"channel_info":{"is_multi_key":false,"multi_key_size":0,"multi_key_status_list":{},"multi_key_polling_index":0,"multi_key_mode":""},"settings":""}`, id)
	list := m.ok(core.RoleAdmin, "GET", "/api/channel", "")
	sameJSON(t, list.Raw, `{"items":[`+want+`],"total":1,"page":1,"page_size":10,"type_counts":{"1":1}}`)
	sameJSON(t, m.ok(core.RoleAdmin, "GET", fmt.Sprintf("/api/channel/%d", id), "").Raw, want)
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/channel/search?keyword=MAI&group=vip&model=mini&type=1&status=enabled", "").Get("items").Raw, "["+want+"]")

	// A hidden password that comes back is the stored one.
	m.ok(core.RoleAdmin, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"key":"","name":"renamed","setting":"{\"proxy\":\"socks5://bob:__hidden__@proxy.example:1080\"}"}`, id))
	ch, err := m.store.Channel(t.Context(), id)
	must(t, err)
	if ch.Key != canaryKey || ch.Name != "renamed" || !strings.Contains(ch.Setting, "hidden-proxy-pass") || ch.Priority != 7 {
		t.Errorf("after an update: key kept %t, name %q, proxy password kept %t, priority %d", ch.Key == canaryKey, ch.Name, strings.Contains(ch.Setting, "hidden-proxy-pass"), ch.Priority)
	}
	// For another host the password is not given away.
	m.ok(core.RoleAdmin, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"setting":"{\"proxy\":\"socks5://bob:__hidden__@evil.example:1080\"}"}`, id))
	if ch, err = m.store.Channel(t.Context(), id); err != nil || strings.Contains(ch.Setting, "hidden-proxy-pass") {
		t.Errorf("setting %q, %v", ch.Setting, err)
	}
}

func TestChannelCreateModes(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		names      []string
		keys       []string
	}{
		{"single", `{"mode":"single","channel":{"type":1,"key":" k1 ","name":"a","models":"m","group":"default"}}`, []string{"a"}, []string{"k1"}},
		{"several lines are one channel with several keys", `{"channel":{"type":1,"key":"k1\nk2\n","name":"a"}}`, []string{"a"}, []string{"k1\nk2"}},
		{"batch", `{"mode":"batch","channel":{"type":1,"key":"k1\n\n k2\nk1","name":"a"}}`, []string{"a", "a"}, []string{"k1", "k2"}},
		{"batch with names", `{"mode":"batch","batch_add_set_key_prefix_2_name":true,"channel":{"type":1,"key":"` + canaryKey + `\nshort","name":"a"}}`,
			[]string{"a sk-canar", "a"}, []string{canaryKey, "short"}},
		{"JSON list", `{"mode":"batch","channel":{"type":1,"key":"[\"k1\",{\"a\": 1}]","name":"a"}}`, []string{"a", "a"}, []string{"k1", `{"a":1}`}},
		{"multi to single", `{"mode":"multi_to_single","multi_key_mode":"random","channel":{"type":1,"key":"k1\nk2","name":"a"}}`, []string{"a"}, []string{"k1\nk2"}},
		{"bare", `{"type":14,"key":"k1\nk2","name":"b","models":"claude-sonnet-4","group":"default","base_url":""}`, []string{"b", "b"}, []string{"k1", "k2"}},
		{"nameless, keyless, JSON as JSON", `{"channel":{"type":4,"models":["llama3"],"model_mapping":{"a":"b"},"setting":null,"weight":null}}`, []string{"Ollama"}, []string{""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := manage(t)
			m.ok(core.RoleAdmin, "POST", "/api/channel/", tt.body)
			items := m.ok(core.RoleAdmin, "GET", "/api/channel/?sort_by=id&sort_order=asc", "").Get("items").Array()
			if len(items) != len(tt.names) {
				t.Fatalf("%d channels, want %d", len(items), len(tt.names))
			}
			for i, item := range items {
				ch, err := m.store.Channel(t.Context(), item.Get("id").Int())
				must(t, err)
				if ch.Name != tt.names[i] || ch.Key.Reveal() != tt.keys[i] {
					t.Errorf("channel %d: name %q, want %q; key as expected: %t", i, ch.Name, tt.names[i], ch.Key.Reveal() == tt.keys[i])
				}
				if strings.Contains(tt.keys[i], "\n") {
					sameJSON(t, item.Get("channel_info").Raw, `{"is_multi_key":true,"multi_key_size":2,"multi_key_status_list":{},"multi_key_polling_index":0,"multi_key_mode":"random"}`)
				}
				if tt.names[i] == "Ollama" && (ch.ModelMapping != `{"a":"b"}` || ch.Setting != "" || ch.Groups[0] != "default" || !ch.AutoBan) {
					t.Errorf("%+v", ch)
				}
			}
		})
	}
}

func TestChannelValidation(t *testing.T) {
	m := manage(t)
	id := m.createChannel(`"name":"a","models":"gpt-4o"`)
	for field, channel := range map[string]string{
		"type":                `"type":999,"key":"k"`,
		"key":                 `"type":1,"key":"  "`,
		"base_url":            `"type":1,"key":"k","base_url":"ftp://x"`,
		"status":              `"type":1,"key":"k","status":9`,
		"weight":              `"type":1,"key":"k","weight":-1`,
		"model_mapping":       `"type":1,"key":"k","model_mapping":"{\"a\":\"b\",\"b\":\"a\"}"`,
		"status_code_mapping": `"type":1,"key":"k","status_code_mapping":"{\"429\":\"200\"}"`,
		"param_override":      `"type":1,"key":"k","param_override":"[]"`,
		"header_override":     `"type":1,"key":"k","header_override":"{\"a\":1}"`,
		"setting":             `"type":1,"key":"k","setting":"{\"proxy\":\"gopher://x\"}"`,
		"settings":            `"type":1,"key":"k","settings":"no"`,
		"group":               `"type":1,"key":"k","group":["a,b"]`,
		"models":              `"type":1,"key":"k","models":"` + strings.Repeat("m", 256) + `"`,
		"name":                `"type":1,"key":"k","name":"` + strings.Repeat("n", 192) + `"`,
	} {
		t.Run(field, func(t *testing.T) {
			message, param := m.refused(core.RoleAdmin, "POST", "/api/channel/", `{"mode":"single","channel":{`+channel+`}}`)
			if param != field || !strings.Contains(message, field) {
				t.Errorf("param %q, message %q", param, message)
			}
		})
	}
	if _, param := m.refused(core.RoleAdmin, "POST", "/api/channel/", `{"mode":"many","channel":{"type":1,"key":"k"}}`); param != "mode" {
		t.Errorf("param %q", param)
	}
	if _, param := m.refused(core.RoleAdmin, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"base_url":"https://user:pw@x"}`, id)); param != "base_url" {
		t.Errorf("param %q", param)
	}
	m.refused(core.RoleAdmin, "PUT", "/api/channel/", `{"id":999,"name":"x"}`)
	m.refused(core.RoleAdmin, "GET", "/api/channel/999", "")
	m.refused(core.RoleAdmin, "DELETE", "/api/channel/999", "")
	if n := m.ok(core.RoleAdmin, "GET", "/api/channel/", "").Get("total").Int(); n != 1 {
		t.Errorf("%d channels", n)
	}
}

func TestChannelKey(t *testing.T) {
	m := manage(t)
	id := m.createChannel(`"name":"a"`)
	path := fmt.Sprintf("/api/channel/%d/key", id)
	if status, body := m.do(core.RoleAdmin, "POST", path, ""); status != http.StatusForbidden || strings.Contains(body, canaryKey) {
		t.Errorf("%d %s", status, body)
	}
	if key := m.ok(core.RoleRoot, "POST", path, "").Get("key").String(); key != canaryKey {
		t.Errorf("key %q", key)
	}
	audit := m.ok(core.RoleRoot, "GET", "/api/audit/?page_size=1", "").Get("items.0")
	for field, want := range map[string]string{"op": "reveal", "kind": "channel", "entity": fmt.Sprint(id), "username": "user-100", "route": "POST /api/channel/:id/key"} {
		if got := audit.Get(field).String(); got != want {
			t.Errorf("audit %s %q, want %q", field, got, want)
		}
	}
	m.ok(core.RoleAdmin, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"key":"k2","key_mode":"append"}`, id))
	if key := m.ok(core.RoleRoot, "POST", path, "").Get("key").String(); key != canaryKey+"\nk2" {
		t.Errorf("key %q", key)
	}
	m.ok(core.RoleAdmin, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"key":"k3","key_mode":"replace"}`, id))
	if key := m.ok(core.RoleRoot, "POST", path, "").Get("key").String(); key != "k3" {
		t.Errorf("key %q", key)
	}
	_, list := m.do(core.RoleRoot, "GET", "/api/audit/?page_size=100", "")
	if strings.Contains(list, canaryKey) || strings.Contains(list, "k3\"") {
		t.Error("the audit log holds a key")
	}
}

// Who may not read a key must not be able to have it sent to himself.
func TestChannelKeyGoesNowhereElse(t *testing.T) {
	m := manage(t)
	id := m.createChannel(`"name":"a","base_url":"https://up.example/v1","tag":"eu","setting":"{\"proxy\":\"http://proxy.example:3128\"}"`)
	plain := m.createChannel(`"name":"b","base_url":"http://up.example"`)
	for _, c := range []struct {
		id     int64
		fields string
		free   bool // needs no key
	}{
		{id, `"base_url":"https://UP.example/v2/"`, true},
		{id, `"base_url":"https://up.example"`, true},
		{id, `"setting":"{\"proxy\":\"socks5://other.example\"}"`, true}, // sees TLS only
		{id, `"type":14`, true},
		{id, `"base_url":"http://up.example"`, false},
		{id, `"base_url":"https://up.example.evil"`, false},
		{id, `"base_url":"https://up.example:444"`, false},
		{id, `"base_url":""`, false},
		{id, `"base_url":"https://evil.example","key_mode":"append","key":"k2"`, false},
		{id, `"header_override":"{\"hOst\":\"evil.example\"}"`, false},
		{plain, `"setting":"{\"proxy\":\"http://evil.example:3128\"}"`, false},
		{plain, `"header_override":"{\"X-A\":\"{api_key}\"}"`, true},
	} {
		body := fmt.Sprintf(`{"id":%d,%s}`, c.id, c.fields)
		if c.free {
			m.ok(core.RoleAdmin, "PUT", "/api/channel/", body)
			continue
		}
		if _, param := m.refused(core.RoleAdmin, "PUT", "/api/channel/", body); param != "key" {
			t.Errorf("%s: param %q", body, param)
		}
	}
	if _, param := m.refused(core.RoleAdmin, "PUT", "/api/channel/tag", `{"tag":"eu","header_override":"{\"Host\":\"evil.example\"}"}`); param != "key" {
		t.Errorf("tag: param %q", param)
	}
	m.ok(core.RoleAdmin, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"base_url":"https://new.example","key":"a new key"}`, id))
	m.ok(core.RoleRoot, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"base_url":"https://newer.example"}`, id))
	copied := m.ok(core.RoleAdmin, "POST", fmt.Sprintf("/api/channel/copy/%d", id), "").Get("id").Int()
	m.refused(core.RoleAdmin, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"base_url":"https://evil.example"}`, copied))
}

func TestChannelLists(t *testing.T) {
	m := manage(t)
	for i, fields := range []string{
		`"name":"zeta","tag":"eu","priority":1,"models":"m1"`,
		`"name":"alpha","tag":"us","priority":3,"models":"m1,m2,m3"`,
		`"name":"mid","tag":"eu","priority":2,"models":"m1,m2","status":2`,
	} {
		m.createChannel(fields)
		if i == 0 {
			m.ok(core.RoleAdmin, "POST", "/api/channel/", `{"type":14,"key":"k","name":"claude","priority":9}`)
		}
	}
	for query, want := range map[string]string{
		"":                             "claude,alpha,mid,zeta",
		"id_sort=true":                 "mid,alpha,claude,zeta",
		"sort_by=name&sort_order=asc":  "alpha,claude,mid,zeta",
		"sort_by=name&sort_order=desc": "zeta,mid,claude,alpha",
		"status=disabled":              "mid",
		"status=1&type=1":              "alpha,zeta",
		"type=14":                      "claude",
		"p=2&page_size=3":              "zeta",
		"p=9&page_size=3":              "",
		"tag_mode=true&id_sort=true":   "zeta,mid,alpha",
		"tag_mode=true&page_size=1":    "zeta,mid",
		"group=none":                   "",
		"group=null":                   "claude,alpha,mid,zeta",
	} {
		t.Run(query, func(t *testing.T) {
			var names []string
			for _, n := range m.ok(core.RoleAdmin, "GET", "/api/channel/?"+query, "").Get("items.#.name").Array() {
				names = append(names, n.String())
			}
			if got := strings.Join(names, ","); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/channel/?type=14", "").Get("type_counts").Raw, `{"1":3,"14":1}`)
	for _, bad := range []string{"sort_by=key", "sort_order=up", "type=x", "tag_mode=maybe"} {
		m.refused(core.RoleAdmin, "GET", "/api/channel/?"+bad, "")
	}
}

func TestChannelStatusAndTags(t *testing.T) {
	m := manage(t)
	a := m.createChannel(`"name":"a","tag":"eu","models":"m1"`)
	b := m.createChannel(`"name":"b","tag":"eu","models":"m1,m2"`)
	status := func(id int64) int64 {
		return m.ok(core.RoleAdmin, "GET", fmt.Sprintf("/api/channel/%d", id), "").Get("status").Int()
	}
	m.ok(core.RoleAdmin, "POST", fmt.Sprintf("/api/channel/%d/status", a), `{"status":2}`)
	if info := m.ok(core.RoleAdmin, "GET", fmt.Sprintf("/api/channel/%d", a), "").Get("other_info").String(); status(a) != 2 || gjson.Get(info, "status_time").Int() != 1_800_000_000 {
		t.Errorf("status %d, info %s", status(a), info)
	}
	m.refused(core.RoleAdmin, "POST", fmt.Sprintf("/api/channel/%d/status", a), `{"status":3}`)
	m.refused(core.RoleAdmin, "POST", "/api/channel/999/status", `{"status":1}`)
	if n := m.ok(core.RoleAdmin, "POST", "/api/channel/status/batch", fmt.Sprintf(`{"ids":[%d,%d,999,%d],"status":1}`, a, b, a)).Int(); n != 2 || status(a) != 1 {
		t.Errorf("%d set", n)
	}
	m.ok(core.RoleAdmin, "PUT", "/api/channel/", fmt.Sprintf(`{"id":%d,"status":2}`, b)) // [S]
	if status(b) != 2 {
		t.Error("PUT does not set the status")
	}
	m.ok(core.RoleAdmin, "POST", "/api/channel/tag/disabled", `{"tag":"eu"}`)
	if status(a) != 2 {
		t.Error("tag not disabled")
	}
	m.ok(core.RoleAdmin, "POST", "/api/channel/tag/enabled", `{"tag":"eu"}`)
	if status(a) != 1 || status(b) != 1 {
		t.Error("tag not enabled")
	}
	m.refused(core.RoleAdmin, "POST", "/api/channel/tag/enabled", `{"tag":"none"}`)
	if got := m.ok(core.RoleAdmin, "GET", "/api/channel/tag/models?tag=eu", "").String(); got != "m1,m2" {
		t.Errorf("models %q", got)
	}
	m.ok(core.RoleAdmin, "PUT", "/api/channel/tag", `{"tag":"eu","new_tag":"us","priority":5,"models":"x,y","groups":"vip"}`)
	ch, err := m.store.Channel(t.Context(), b)
	must(t, err)
	if ch.Tag != "us" || ch.Priority != 5 || strings.Join(ch.Models, ",") != "x,y" || ch.Groups[0] != "vip" || ch.Key != canaryKey {
		t.Errorf("%+v", ch)
	}
	m.refused(core.RoleAdmin, "PUT", "/api/channel/tag", `{"tag":"us","weight":-5}`)
	if n := m.ok(core.RoleAdmin, "POST", "/api/channel/batch/tag", fmt.Sprintf(`{"ids":[%d],"tag":null}`, b)).Int(); n != 1 {
		t.Errorf("%d tagged", n)
	}
	copied := m.ok(core.RoleAdmin, "POST", fmt.Sprintf("/api/channel/copy/%d?suffix=-2", b), "").Get("id").Int()
	ch, err = m.store.Channel(t.Context(), copied)
	must(t, err)
	if ch.Name != "b-2" || ch.Key != canaryKey || ch.Tag != "" {
		t.Errorf("%+v", ch)
	}
	sameJSON(t, m.ok(core.RoleAdmin, "POST", "/api/channel/fix", "").Raw, `{"fails":0,"success":3}`)
	m.ok(core.RoleAdmin, "POST", fmt.Sprintf("/api/channel/%d/status", a), `{"status":2}`)
	if n := m.ok(core.RoleAdmin, "DELETE", "/api/channel/disabled", "").Int(); n != 1 {
		t.Errorf("%d deleted", n)
	}
	if n := m.ok(core.RoleAdmin, "POST", "/api/channel/batch", fmt.Sprintf(`{"ids":[%d,%d,999]}`, b, copied)).Int(); n != 2 {
		t.Errorf("%d deleted", n)
	}
	m.refused(core.RoleAdmin, "POST", "/api/channel/batch", `{"ids":[]}`)
	if n := len(m.snap.Load().Channels); n != 0 {
		t.Errorf("%d channels are left", n)
	}
}

func TestChannelProbe(t *testing.T) {
	m := manage(t)
	id := m.createChannel(`"name":"a","models":"gpt-4o,text-embedding-3-small","test_model":"gpt-4o"`)
	var calls seen[string]
	m.client.test = func(ctx context.Context, ch *core.Channel, model string, op llm.Operation, stream bool) (time.Duration, error) {
		calls.add(fmt.Sprint(model, " ", op, " ", stream, " ", ch.Key == canaryKey))
		if model == "broken" {
			return 20 * time.Millisecond, &core.Error{Code: core.CodeUpstreamStatus, Message: "upstream answered 401", Err: fmt.Errorf("key %s", canaryKey)}
		}
		return 1500 * time.Millisecond, nil
	}
	for _, tt := range []struct{ query, call, want string }{
		{"", "  false true", `{"success":true,"message":"","time":1.5}`},
		{"?model=text-embedding-3-small&endpoint_type=embeddings", "text-embedding-3-small embeddings false true", `{"success":true,"message":"","time":1.5}`},
		{"?endpoint_type=openai-response&stream=true", " responses true true", `{"success":true,"message":"","time":1.5}`},
		{"?model=broken", "broken  false true", `{"success":false,"message":"upstream answered 401","time":0.02,"error_code":"bad_response_status_code"}`},
	} {
		t.Run(tt.query, func(t *testing.T) {
			_, body := m.do(core.RoleAdmin, "GET", fmt.Sprintf("/api/channel/test/%d%s", id, tt.query), "")
			sameJSON(t, body, tt.want)
			all := calls.all()
			if got := all[len(all)-1]; got != tt.call {
				t.Errorf("call %q, want %q", got, tt.call)
			}
		})
	}
	if v := m.ok(core.RoleAdmin, "GET", fmt.Sprintf("/api/channel/%d", id), ""); v.Get("response_time").Int() != 1500 || v.Get("test_time").Int() != 1_800_000_000 {
		t.Errorf("%s", v.Raw)
	}
	_, body := m.do(core.RoleAdmin, "GET", fmt.Sprintf("/api/channel/test/%d?endpoint_type=fax", id), "")
	if gjson.Get(body, "success").Bool() || !strings.Contains(gjson.Get(body, "message").String(), "endpoint_type") {
		t.Error(body)
	}
}

func TestChannelProbeAll(t *testing.T) {
	m := manage(t)
	for i := range 9 {
		m.createChannel(fmt.Sprintf(`"name":"c%d","models":"gpt-4o","status":%d`, i, 1+i%3))
	}
	var calls seen[int64]
	open := make(chan struct{})
	m.client.test = func(ctx context.Context, ch *core.Channel, _ string, _ llm.Operation, _ bool) (time.Duration, error) {
		calls.add(ch.ID)
		select {
		case <-open:
			return time.Millisecond, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if s := m.ok(core.RoleAdmin, "GET", "/api/channel/test", "").Get("status").String(); s != "running" {
		t.Errorf("status %q", s)
	}
	eventually(t, func() bool { return len(calls.all()) == probesAtOnce })
	status, body := m.do(core.RoleAdmin, "GET", "/api/channel/test", "")
	if status != http.StatusConflict || gjson.Get(body, "success").Bool() {
		t.Errorf("%d %s", status, body)
	}
	close(open)
	eventually(t, func() bool { return len(calls.all()) == 6 }) // three are disabled by hand
	eventually(t, func() bool {
		status, _ := m.do(core.RoleAdmin, "GET", "/api/channel/test", "")
		return status == http.StatusOK
	})
	m.srv.Close() // ends the second run
	if status, _ := m.do(core.RoleAdmin, "GET", "/api/channel/test", ""); status != http.StatusConflict {
		t.Errorf("a closed server starts a run: %d", status)
	}
}

func TestFetchModels(t *testing.T) {
	m := manage(t)
	id := m.createChannel(`"name":"a"`)
	m.client.models = func(_ context.Context, ch *core.Channel) ([]string, error) {
		if ch.BaseURL == "https://down.example" {
			return nil, core.Errorf(core.CodeUpstreamConnect, "upstream could not be reached")
		}
		return []string{ch.BaseURL, fmt.Sprint(ch.Key == canaryKey)}, nil
	}
	sameJSON(t, m.ok(core.RoleAdmin, "GET", fmt.Sprintf("/api/channel/fetch_models/%d", id), "").Raw, `["","true"]`)
	sameJSON(t, m.ok(core.RoleAdmin, "POST", "/api/channel/fetch_models", `{"base_url":"https://up.example/","type":1,"key":"`+canaryKey+`"}`).Raw, `["https://up.example","true"]`)
	m.refused(core.RoleAdmin, "POST", "/api/channel/fetch_models", `{"base_url":"https://down.example","type":1,"key":"k"}`)
	m.refused(core.RoleAdmin, "POST", "/api/channel/fetch_models", `{"base_url":"file:///etc","type":1,"key":"k"}`)
	m.refused(core.RoleAdmin, "POST", "/api/channel/fetch_models", `{"base_url":"https://up.example","type":777,"key":"k"}`)
}

func TestChannelCatalogue(t *testing.T) {
	m := manage(t)
	m.createChannel(`"name":"a","models":"gpt-4o,own"`)
	m.createChannel(`"name":"b","models":"off","status":2`)
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/channel/models_enabled", "").Raw, `["gpt-4o","own"]`)
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/channel/ops", "").Raw, `{"retry_times":2}`)
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/channel/models", "").Raw, `[
		{"id":"dall-e-3","object":"model","created":1626777600,"owned_by":""},
		{"id":"gpt-4o","object":"model","created":1626777600,"owned_by":"openai"},
		{"id":"off","object":"model","created":1626777600,"owned_by":"openai"},
		{"id":"own","object":"model","created":1626777600,"owned_by":"openai"}]`)
}
