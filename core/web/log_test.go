package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

func (m *managed) insertLogs() {
	m.t.Helper()
	m.createChannel(`"name":"main","models":"gpt-4o"`)
	var rows []core.UsageLog
	for i := range 5 {
		rows = append(rows, core.UsageLog{At: m.now.Add(time.Duration(i-10) * time.Second), Type: core.LogConsume, UserID: m.user[core.RoleUser].ID, Username: "user-1",
			TokenID: 7, TokenName: "t", ChannelID: 1, Model: "gpt-4o", Group: "default", Quota: 100, PromptTokens: 10, CompletionTokens: 5,
			UseTime: 2 * time.Second, Stream: true, RequestID: fmt.Sprintf("req-%d", i),
			Other: `{"model_ratio":1.25,"admin_info":{"use_channel":["1"]},"channel_name":"main","frt":10}`})
	}
	rows = append(rows, core.UsageLog{At: m.now.Add(-time.Hour), Type: core.LogError, UserID: m.user[core.RoleAdmin].ID, Username: "user-10", TokenID: 8, TokenName: "other",
		ChannelID: 99, Model: "m2", Group: "vip", Content: "failed", RequestID: "req-e", Other: ""})
	must(m.t, m.store.InsertLogs(m.t.Context(), rows))
}

func TestLogShapes(t *testing.T) {
	m := manage(t)
	m.insertLogs()
	admin := m.ok(core.RoleAdmin, "GET", "/api/log/?request_id=req-4", "")
	id := admin.Get("items.0.id").Int()
	row := func(id int64, other string) string {
		return fmt.Sprintf(`{"id":%d,"user_id":%d,"created_at":1799999994,"type":2,"content":"","username":"user-1","token_name":"t","model_name":"gpt-4o","quota":100,
			"prompt_tokens":10,"completion_tokens":5,"use_time":2,"is_stream":true,"channel":1,"token_id":7,"group":"default","ip":"","request_id":"req-4","other":%s`, id, m.user[core.RoleUser].ID, other)
	}
	full := `"{\"model_ratio\":1.25,\"admin_info\":{\"use_channel\":[\"1\"]},\"channel_name\":\"main\",\"frt\":10}"`
	public := `"{\"frt\":10,\"model_ratio\":1.25}"`
	sameJSON(t, admin.Raw, `{"page":1,"page_size":10,"total":1,"items":[`+row(id, full)+`,"channel_name":"main"}]}`)
	own := m.ok(core.RoleUser, "GET", "/api/log/self?p=2&page_size=2", "")
	if ids := own.Get("items.#.id").Raw; ids != "[3,4]" || own.Get("total").Int() != 5 {
		t.Errorf("ids %s, total %s", ids, own.Get("total").Raw)
	}
	own = m.ok(core.RoleUser, "GET", "/api/log/self?request_id=req-4&username=user-10", "")
	sameJSON(t, own.Get("items").Raw, `[`+row(1, public)+`}]`)

	m.relay.cred = core.Credential{Token: &core.Token{ID: 7, Status: core.TokenEnabled, UnlimitedQuota: true}, User: m.user[core.RoleUser]}
	token := m.ok(core.RoleGuest, "GET", "/api/log/token", "")
	if n := len(token.Array()); n != 5 || strings.Contains(token.Raw, "admin_info") {
		t.Errorf("%d rows: %s", n, token.Raw)
	}
	sameJSON(t, token.Get("0").Raw, row(1, public)+`}`)
}

func TestLogFilters(t *testing.T) {
	m := manage(t)
	m.insertLogs()
	for query, want := range map[string]int64{
		"": 6, "type=2": 5, "type=5": 1, "username=user-10": 1, "token_name=other": 1, "model_name=m2": 1, "channel=99": 1, "group=vip": 1,
		"start_timestamp=1799999990&end_timestamp=1799999992": 3, "end_timestamp=1799990000": 0,
	} {
		if n := m.ok(core.RoleAdmin, "GET", "/api/log/?"+query, "").Get("total").Int(); n != want {
			t.Errorf("%s: %d rows, want %d", query, n, want)
		}
	}
	for _, bad := range []string{"type=-1", "type=x", "start_timestamp=x", "start_timestamp=-5", "start_timestamp=20&end_timestamp=10", "channel=x", "end_timestamp=99999999999999", "p=1000000&page_size=100"} {
		m.refused(core.RoleAdmin, "GET", "/api/log/?"+bad, "")
		if bad != "channel=x" {
			m.refused(core.RoleUser, "GET", "/api/log/self?"+bad, "")
		}
	}
}

func TestLogStat(t *testing.T) {
	m := manage(t)
	m.insertLogs()
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/log/stat", "").Raw, `{"quota":500,"rpm":5,"tpm":75}`)
	sameJSON(t, m.ok(core.RoleUser, "GET", "/api/log/self/stat?model_name=gpt-4o", "").Raw, `{"quota":500,"rpm":5,"tpm":75}`)
	sameJSON(t, m.ok(core.RoleAdmin, "GET", "/api/log/self/stat", "").Raw, `{"quota":0,"rpm":0,"tpm":0}`)
}

func TestLogDelete(t *testing.T) {
	m := manage(t)
	m.insertLogs()
	m.refused(core.RoleAdmin, "DELETE", "/api/log/", "")
	if n := m.ok(core.RoleAdmin, "DELETE", "/api/log/?target_timestamp=1799999992", "").Int(); n != 3 {
		t.Errorf("%d rows deleted", n)
	}
	if n := m.ok(core.RoleAdmin, "GET", "/api/log/", "").Get("total").Int(); n != 3 {
		t.Errorf("%d rows left", n)
	}
	if a := m.ok(core.RoleRoot, "GET", "/api/audit/?page_size=1", "").Get("items.0"); a.Get("kind").String() != "log" || a.Get("op").String() != "delete" || a.Get("detail").String() != `{"before":1799999992}` {
		t.Error(a.Raw)
	}
}
