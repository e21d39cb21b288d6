package web

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func TestTokenCRUD(t *testing.T) {
	x, _, _, user, _ := staff(t)
	x.update(func(ctx context.Context, tx *store.Tx) error {
		return tx.PutGroup(ctx, &core.Group{Name: "vip", Usable: true})
	})
	body := `{"name":"first","expired_time":-1,"remain_quota":500,"unlimited_quota":false,"model_limits_enabled":true,"model_limits":"a, b,,a","allow_ips":"192.0.2.1\n10.0.0.0/8","group":"vip","cross_group_retry":true,"auto_groups":[]}`
	made := user.data("POST", "/api/token/", body)
	key, id := made.Get("key").String(), fmt.Sprint(made.Get("id").Int())
	if len(key) != 48 || strings.ContainsAny(key, "-*") {
		t.Fatalf("key %q", key)
	}
	got := user.data("GET", "/api/token/"+id, "")
	want := fmt.Sprintf(`{"id":%s,"user_id":%d,"key":"%s**********%s","status":1,"name":"first","created_time":%d,"accessed_time":0,"expired_time":-1,"remain_quota":500,"unlimited_quota":false,"model_limits_enabled":true,"model_limits":"a,b","allow_ips":"192.0.2.1\n10.0.0.0/8","used_quota":0,"group":"vip","cross_group_retry":true,"DeletedAt":null}`,
		id, got.Get("user_id").Int(), key[:4], key[44:], x.now().Unix())
	sameJSON(t, got.Raw, want)
	for _, path := range []string{"/api/token/", "/api/token", "/api/token/?p=1&size=10", "/api/token/search?keyword=fir", "/api/token/search?token=sk-" + key, "/api/token/search?keyword=fi&token=" + key[:6]} {
		list := user.data("GET", path, "")
		if list.Get("total").Int() != 1 || list.Get("items.0.id").String() != id || strings.Contains(list.Raw, key) {
			t.Errorf("%s: %s", path, list)
		}
	}
	if k := user.data("POST", "/api/token/"+id+"/key", "").Get("key").String(); k != key {
		t.Errorf("revealed %q", k)
	}
	if k := user.data("POST", "/api/token/batch/keys", `{"ids":[`+id+`]}`).Get(id).String(); k != key {
		t.Errorf("revealed in a batch: %q", k)
	}
	upd := user.data("PUT", "/api/token/", `{"id":`+id+`,"name":"second","remain_quota":9,"allow_ips":"","model_limits_enabled":false}`)
	if upd.Get("name").String() != "second" || upd.Get("remain_quota").Int() != 9 || upd.Get("allow_ips").String() != "" || upd.Get("group").String() != "vip" || upd.Get("key").String() == key {
		t.Errorf("%s", upd)
	}
	if remain, _, err := x.store.TokenBalance(t.Context(), made.Get("id").Int()); err != nil || remain != 9 {
		t.Errorf("balance %d, %v", remain, err)
	}
	if s := user.data("PUT", "/api/token/?status_only=true", `{"id":`+id+`,"status":2,"name":"ignored"}`); s.Get("status").Int() != 2 || s.Get("name").String() != "second" {
		t.Errorf("%s", s)
	}
	user.data("DELETE", "/api/token/"+id, "")
	user.refused("GET", "/api/token/"+id, "", 200, "not found")
	user.refused("DELETE", "/api/token/"+id, "", 200, "not found")
}

func TestTokenValidation(t *testing.T) {
	x, _, _, user, _ := staff(t)
	for _, c := range []struct{ body, message string }{
		{`{}`, "name: is required"},
		{`{"name":" "}`, "name: is required"},
		{`{"name":"` + strings.Repeat("x", 51) + `"}`, "name: must be at most 50 characters"},
		{`{"name":"x","remain_quota":-1}`, "remain_quota: must be at least 0"},
		{`{"name":"x","remain_quota":9223372036854775807}`, "remain_quota: must be at most"},
		{`{"name":"x","remain_quota":1.5}`, "remain_quota: must be a whole number"},
		{`{"name":"x","remain_quota":99999999999999999999}`, "remain_quota: must be a whole number"},
		{`{"name":"x","expired_time":-2}`, "expired_time: must be at least -1"},
		{`{"name":"x","expired_time":1}`, "expired_time: lies in the past"},
		{`{"name":"x","allow_ips":"10.0.0.0/8\nnonsense"}`, `allow_ips: "nonsense" is not`},
		{`{"name":"x","group":"secret"}`, `group: you may not use the group "secret"`},
		{`{"name":5}`, "name: must be a text"},
	} {
		user.refused("POST", "/api/token/", c.body, 200, c.message)
	}
	user.refused("PUT", "/api/token/", `{"name":"x"}`, 200, "id: is required")
	user.refused("PUT", "/api/token/?status_only=true", `{"id":1}`, 200, "status: is required")
	user.refused("POST", "/api/token/batch", `{"ids":[]}`, 200, "ids: must be at least 1 entries")
	user.refused("POST", "/api/token/batch", `{"ids":[0]}`, 200, "ids[0]: must be more than 0")
	user.refused("GET", "/api/token/abc", "", 200, "id: must be a positive number")

	t.Run("most of a user", func(t *testing.T) {
		x.update(func(ctx context.Context, tx *store.Tx) error {
			return tx.PutOption(ctx, "token_setting.max_user_tokens", "2")
		})
		user.data("POST", "/api/token/", `{"name":"one"}`)
		user.data("POST", "/api/token/", `{"name":"two","expired_time":0}`)
		user.refused("POST", "/api/token/", `{"name":"three"}`, 200, "the most is 2")
	})
	t.Run("status", func(t *testing.T) {
		list := user.data("GET", "/api/token/", "")
		id := list.Get("items.0.id").String()
		if s := list.Get("items.0.status").Int(); s != int64(core.TokenExhausted) {
			t.Errorf("a token without quota has status %d", s)
		}
		user.refused("PUT", "/api/token/?status_only=true", `{"id":`+id+`,"status":1}`, 200, "quota is used up")
		user.refused("PUT", "/api/token/?status_only=true", `{"id":`+id+`,"status":3}`, 200, "status: must be 1")
		soon := x.now().Add(time.Minute).Unix()
		if s := user.data("PUT", "/api/token/", fmt.Sprintf(`{"id":%s,"unlimited_quota":true,"expired_time":%d,"status":4}`, id, soon)); s.Get("status").Int() != 1 || s.Get("expired_time").Int() != soon {
			t.Errorf("%s", s)
		}
		x.advance(2 * time.Minute)
		if s := user.data("GET", "/api/token/"+id, "").Get("status").Int(); s != int64(core.TokenExpired) {
			t.Errorf("an expired token has status %d", s)
		}
		user.refused("PUT", "/api/token/?status_only=true", `{"id":`+id+`,"status":1}`, 200, "has expired")
	})
}

func TestTokenUsage(t *testing.T) {
	x := newSite(t)
	u := x.addUser("u", core.RoleUser)
	tok, key := x.addToken(u, func(t *core.Token) {
		t.UnlimitedQuota, t.RemainQuota, t.LimitModels, t.Models, t.ExpiresAt = false, 750_000, true, []string{"m"}, x.now().Add(time.Hour)
	})
	a := x.as("sk-" + key)
	want := fmt.Sprintf(`{"code":true,"data":{"expires_at":%d,"model_limits":{"m":true},"model_limits_enabled":true,"name":"t","object":"token_usage","total_available":750000,"total_granted":750000,"total_used":0,"unlimited_quota":false},"message":"ok"}`, x.now().Add(time.Hour).Unix())
	for _, path := range []string{"/api/usage/token/", "/api/usage/token"} {
		sameJSON(t, a.do("GET", path, "").body, want)
	}
	subscription := func(amount string, until int64) string {
		return fmt.Sprintf(`{"access_until":%d,"hard_limit_usd":%s,"has_payment_method":true,"object":"billing_subscription","soft_limit_usd":%s,"system_hard_limit_usd":%s}`, until, amount, amount, amount)
	}
	set := func(key, value string) {
		x.update(func(ctx context.Context, tx *store.Tx) error { return tx.PutOption(ctx, key, value) })
	}
	until := x.now().Add(time.Hour).Unix()
	for _, path := range []string{"/dashboard/billing/subscription", "/v1/dashboard/billing/subscription"} {
		sameJSON(t, a.do("GET", path, "").body, subscription("1.5", until))
	}
	set("general_setting.quota_display_type", "CNY")
	sameJSON(t, a.do("GET", "/dashboard/billing/subscription", "").body, subscription("10.95", until))
	set("general_setting.quota_display_type", "TOKENS")
	sameJSON(t, a.do("GET", "/dashboard/billing/subscription", "").body, subscription("750000", until))
	set("general_setting.quota_display_type", "USD")
	set("DisplayTokenStatEnabled", "false")
	sameJSON(t, a.do("GET", "/dashboard/billing/subscription", "").body, subscription("0.002", 0))
	sameJSON(t, a.do("GET", "/v1/dashboard/billing/usage?start_date=x", "").body, `{"object":"list","total_usage":0}`)
	set("DisplayTokenStatEnabled", "true")
	_, unlimited := x.addToken(u, nil)
	sameJSON(t, x.as(unlimited).do("GET", "/dashboard/billing/subscription", "").body, subscription("100000000", 0))

	x.advance(2 * time.Hour)
	if r := a.do("GET", "/api/usage/token/", ""); r.status != 200 {
		t.Errorf("an expired key cannot read its usage: %d %s", r.status, r.body)
	}
	if r := a.do("GET", "/dashboard/billing/usage", ""); r.status != 401 || r.get("error.type").String() != "new_api_error" {
		t.Errorf("expired key on the dashboard: %d %s", r.status, r.body)
	}
	x.update(func(ctx context.Context, tx *store.Tx) error {
		tok.Status = core.TokenDisabled
		return tx.SaveToken(ctx, tok)
	})
	if r := a.do("GET", "/api/usage/token/", ""); r.status != 401 || r.success() {
		t.Errorf("disabled key: %d %s", r.status, r.body)
	}
}

func TestShownAmount(t *testing.T) {
	for _, c := range []struct {
		kind          string
		quota, factor int64
		want          string
	}{
		{"USD", 0, 1, "0"}, {"USD", 500_000, 1, "1"}, {"USD", 1, 1, "0.000002"}, {"USD", 1, 100, "0.0002"}, {"USD", -250_000, 1, "-0.5"},
		{"USD", core.MaxQuota, 1, "4611686018427.387902"}, {"CNY", 500_000, 1, "7.3"}, {"TOKENS", 123, 1, "123"}, {"TOKENS", 100, 100, "10000"},
	} {
		o := &core.Options{QuotaDisplayType: c.kind, QuotaPerUnit: 500_000, USDExchangeRate: core.MustRatio("7.3"), DisplayInCurrency: true}
		if got := shownAmount(o, c.quota, c.factor).String(); got != c.want {
			t.Errorf("%s %d x %d: %s, want %s", c.kind, c.quota, c.factor, got, c.want)
		}
	}
}
