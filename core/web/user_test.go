package web

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

// staff is a site with an account of each role and their access tokens.
func staff(t *testing.T) (x *site, root, admin, user *agent, id map[string]int64) {
	x = newSite(t)
	id = map[string]int64{}
	agents := map[string]*agent{}
	for name, role := range map[string]core.Role{"root": core.RoleRoot, "admin": core.RoleAdmin, "admin2": core.RoleAdmin, "user": core.RoleUser} {
		u := x.addUser(name, role)
		bearer := "bearer-of-" + name + "-00000000000000000000"
		x.accessToken(u, bearer)
		agents[name], id[name] = x.as(bearer), u.ID
	}
	return x, agents["root"], agents["admin"], agents["user"], id
}

func TestSelf(t *testing.T) {
	x, root, admin, user, id := staff(t)
	me := user.data("GET", self, "")
	for _, key := range strings.Fields("id username display_name role status email github_id discord_id oidc_id wechat_id telegram_id linux_do_id group quota used_quota request_count aff_code aff_count aff_quota aff_history_quota inviter_id setting stripe_customer sidebar_modules permissions") {
		if !me.Get(key).Exists() {
			t.Errorf("self has no %s", key)
		}
	}
	if strings.Contains(me.Raw, "argon2id") || me.Get("password").Exists() {
		t.Error("a hash is shown")
	}
	if root.data("GET", self, "").Get("permissions.sidebar_settings").Bool() || !admin.data("GET", self, "").Get("permissions.sidebar_settings").Bool() {
		t.Error("permissions by role")
	}
	user.data("PUT", self, `{"username":"newname","display_name":"New","role":100,"quota":5,"status":1,"group":"vip"}`)
	me = user.data("GET", self, "")
	if me.Get("username").String() != "newname" || me.Get("display_name").String() != "New" || me.Get("role").Int() != 1 || me.Get("quota").Int() != 1000 || me.Get("group").String() != "default" {
		t.Errorf("%s", me)
	}
	user.refused("PUT", self, `{"username":"admin"}`, 200, "username")
	user.data("PUT", self, `{"sidebar_modules":"{\"a\":1}"}`)
	user.data("PUT", self, `{"language":"en"}`)
	user.data("PUT", "/api/user/setting", `{"record_ip_log":true,"quota_warning_threshold":123456789012,"notify_type":"email"}`)
	user.refused("PUT", "/api/user/setting", `{"notify_type":"pigeon"}`, 200, "notify_type: must be one of")
	user.refused("PUT", "/api/user/setting", `{"quota_warning_threshold":-1}`, 200, "quota_warning_threshold")
	me = user.data("GET", self, "")
	setting := me.Get("setting").String()
	if me.Get("sidebar_modules").String() != `{"a":1}` || !gjson.Get(setting, "record_ip_log").Bool() || gjson.Get(setting, "language").String() != "en" || gjson.Get(setting, "quota_warning_threshold").Int() != 123456789012 {
		t.Errorf("setting %s", setting)
	}
	if list := admin.data("GET", fmt.Sprintf("/api/user/%d", id["user"]), ""); list.Get("setting").String() != "" {
		t.Error("an administrator sees a user's settings")
	}
	if r := user.do("DELETE", self, ""); !r.success() {
		t.Error(r.body)
	}
	if _, err := x.store.User(t.Context(), id["user"]); !core.IsCode(err, core.CodeNotFound) {
		t.Errorf("after deletion: %v", err)
	}
}

func TestUserCRUD(t *testing.T) {
	x, root, admin, _, id := staff(t)
	made := admin.data("POST", "/api/user/", `{"username":"bob","password":"`+testPassword+`","display_name":"Bob","group":"vip","remark":"of sales"}`)
	bob := made.Get("id").Int()
	if bob == 0 || made.Get("role").Int() != 1 || made.Get("group").String() != "vip" || made.Get("remark").String() != "of sales" {
		t.Fatalf("%s", made)
	}
	x.logIn("bob")
	admin.refused("POST", "/api/user/", `{"username":"bob","password":"`+testPassword+`"}`, 200, "username")
	admin.refused("POST", "/api/user/", `{"username":"eve","password":"`+testPassword+`","role":10}`, 403, "lower role")
	root.refused("POST", "/api/user/", `{"username":"eve","password":"`+testPassword+`","role":100}`, 200, "role: must be")
	root.refused("POST", "/api/user/", `{"username":"eve","password":"`+testPassword+`","role":7}`, 200, "role: must be")
	root.data("POST", "/api/user/", `{"username":"adm3","password":"`+testPassword+`","role":10}`)

	list := admin.data("GET", "/api/user/?p=1&page_size=2", "")
	if list.Get("total").Int() != 6 || len(list.Get("items").Array()) != 2 || list.Get("page").Int() != 1 || list.Get("page_size").Int() != 2 {
		t.Errorf("%s", list)
	}
	for query, want := range map[string]int64{"keyword=bo": 1, "keyword=%25": 0, "role=10": 3, "group=vip": 1, "status=2": 0, "keyword=" + fmt.Sprint(bob): 1} {
		if n := admin.data("GET", "/api/user/search?"+query, "").Get("total").Int(); n != want {
			t.Errorf("search %s: %d, want %d", query, n, want)
		}
	}
	admin.refused("GET", "/api/user/search?role=x", "", 200, "role: must be a whole number")
	admin.refused("GET", "/api/user/0", "", 200, "id: must be")
	admin.refused("GET", "/api/user/99999", "", 200, "not found")

	// on whom an administrator acts
	for _, target := range []string{"root", "admin2", "admin"} {
		n := fmt.Sprint(id[target])
		admin.refused("GET", "/api/user/"+n, "", 403, "lower role")
		admin.refused("PUT", "/api/user/", `{"id":`+n+`,"display_name":"x"}`, 403, "lower role")
		admin.refused("DELETE", "/api/user/"+n, "", 403, "lower role")
		for _, action := range []string{"enable", "disable", "delete", "promote", "demote", "add_quota"} {
			admin.refused("POST", "/api/user/manage", `{"id":`+n+`,"action":"`+action+`","value":5}`, 403, "lower role")
		}
	}
	admin.data("PUT", "/api/user/", fmt.Sprintf(`{"id":%d,"username":"rob","display_name":"Rob","group":"default","remark":"","quota":4242,"role":100}`, bob))
	got := admin.data("GET", fmt.Sprintf("/api/user/%d", bob), "")
	if got.Get("username").String() != "rob" || got.Get("quota").Int() != 4242 || got.Get("role").Int() != 1 || got.Get("group").String() != "default" || got.Get("remark").String() != "" {
		t.Errorf("%s", got)
	}
	admin.refused("PUT", "/api/user/", fmt.Sprintf(`{"id":%d,"quota":%d}`, bob, uint64(core.MaxQuota)+1), 200, "quota: must be at most")
	admin.refused("PUT", "/api/user/", fmt.Sprintf(`{"id":%d,"quota":-1}`, bob), 200, "quota: must be at least")
	for _, email := range []string{"root", "a@b\r\nc: d", "Root <root@sluice.example>", "@"} {
		b, _ := json.Marshal(map[string]any{"id": bob, "email": email})
		admin.refused("PUT", "/api/user/", string(b), 200, "email: must be")
	}
	admin.data("PUT", "/api/user/", fmt.Sprintf(`{"id":%d,"email":"bob@sluice.example"}`, bob))
	admin.data("PUT", "/api/user/", fmt.Sprintf(`{"id":%d,"email":""}`, bob))
	root.data("PUT", "/api/user/", fmt.Sprintf(`{"id":%d,"display_name":"The Root"}`, id["root"]))
	root.refused("PUT", "/api/user/", fmt.Sprintf(`{"id":%d,"password":"a new password"}`, id["root"]), 200, "password: change your own")
	session := x.logIn("rob")
	admin.data("PUT", "/api/user/", fmt.Sprintf(`{"id":%d,"password":"a new password"}`, bob))
	session.refused("GET", self, "", 401, "session")
	root.refused("DELETE", fmt.Sprintf("/api/user/%d", id["root"]), "", 200, "root account")
	admin.data("DELETE", fmt.Sprintf("/api/user/%d", bob), "")
	admin.refused("GET", fmt.Sprintf("/api/user/%d", bob), "", 200, "not found")
}

func TestManage(t *testing.T) {
	x, root, admin, user, id := staff(t)
	manage := func(a *agent, target, rest string) *reply {
		return a.do("POST", "/api/user/manage", fmt.Sprintf(`{"id":%d,%s}`, id[target], rest))
	}
	for _, c := range []struct {
		who    *agent
		target string
		rest   string
		want   string // path=value, or the part of a refusal's message
	}{
		{admin, "user", `"action":"promote"`, "only root"},
		{root, "user", `"action":"promote"`, "data.role=10"},
		{root, "user", `"action":"promote"`, "administrator already"},
		{root, "user", `"action":"demote"`, "data.role=1"},
		{root, "user", `"action":"demote"`, "ordinary user already"},
		{admin, "user", `"action":"disable"`, "data.status=2"},
		{admin, "user", `"action":"enable"`, "data.status=1"},
		{admin, "user", `"action":"fly"`, "action: must be one of"},
		{admin, "user", `"mode":"add"`, "action: is required"},
		{root, "root", `"action":"disable"`, "root account"},
		{root, "root", `"action":"demote"`, "root account"},
		{root, "root", `"action":"delete"`, "root account"},
		{admin, "user", `"action":"add_quota","mode":"add","value":0`, "value: must be"},
		{admin, "user", `"action":"add_quota","mode":"multiply","value":5`, "mode: must be one of"},
		{admin, "user", `"action":"add_quota","mode":"add","value":-5`, "value: must be"},
		{admin, "user", `"action":"add_quota","mode":"subtract","value":5000`, "balance is 1000"},
		{admin, "user", `"action":"add_quota","mode":"add","value":9223372036854775807`, "value: must be"},
	} {
		r := manage(c.who, c.target, c.rest)
		if path, value, ok := strings.Cut(c.want, "="); ok {
			if !r.success() || r.get(path).String() != value {
				t.Errorf("%s %s: %s, want %s", c.target, c.rest, r.body, c.want)
			}
		} else if r.success() || !strings.Contains(r.get("message").String(), c.want) {
			t.Errorf("%s %s: %s, want %q", c.target, c.rest, r.body, c.want)
		}
	}
	quota := func() int64 { return user.data("GET", self, "").Get("quota").Int() }
	for _, step := range []struct {
		rest string
		want int64
	}{
		{`"action":"add_quota","mode":"add","value":500`, 1500},
		{`"action":"add_quota","value":1`, 1501},
		{`"action":"add_quota","mode":"subtract","value":501`, 1000},
		{`"action":"add_quota","mode":"override","value":7`, 7},
		{`"action":"add_quota","mode":"override","value":0`, 0},
	} {
		if r := manage(admin, "user", step.rest); !r.success() {
			t.Errorf("%s: %s", step.rest, r.body)
		}
		if got := quota(); got != step.want {
			t.Errorf("%s: balance %d, want %d", step.rest, got, step.want)
		}
	}
	logs, err := x.store.Logs(t.Context(), core.LogFilter{Type: core.LogManage, UserID: id["user"]}, core.PageQuery{Limit: 10})
	must(t, err)
	if len(logs.Items) != 5 || logs.Items[0].Content != "admin set the balance from 7 to 0" {
		t.Errorf("log rows %+v", logs.Items)
	}
	session := x.logIn("user")
	manage(admin, "user", `"action":"disable"`)
	session.refused("GET", self, "", 401, "")
	if r := admin.do("POST", "/api/user/manage", `{"username":"user","action":"delete"}`); !r.success() {
		t.Error(r.body)
	}
}

func TestModelsAndGroups(t *testing.T) {
	x, root, _, user, _ := staff(t)
	x.update(func(ctx context.Context, tx *store.Tx) error {
		for _, g := range []*core.Group{
			{Name: "default", Ratio: core.MustRatio("1"), HasRatio: true, Usable: true, Description: "everybody"},
			{Name: "vip", Ratio: core.MustRatio("0.5"), HasRatio: true, Usable: true, Description: "cheaper"},
			{Name: "hidden", Ratio: core.MustRatio("2"), HasRatio: true},
		} {
			if err := tx.PutGroup(ctx, g); err != nil {
				return err
			}
		}
		for group, models := range map[string][]string{"default": {"b", "a"}, "vip": {"a", "v"}, "hidden": {"h"}} {
			if err := tx.CreateChannel(ctx, &core.Channel{Type: 1, Key: "k", Name: group, Status: core.ChannelEnabled, Models: models, Groups: []string{group}}); err != nil {
				return err
			}
		}
		return nil
	})
	for query, want := range map[string]string{"": `["a","b","v"]`, "?group=vip": `["a","v"]`, "?group=hidden": `[]`, "?group=auto": `["a","b"]`} {
		if got := user.data("GET", "/api/user/models"+query, "").Raw; got != want {
			t.Errorf("models%s: %s, want %s", query, got, want)
		}
	}
	want := `{"default":{"ratio":1,"desc":"everybody"},"vip":{"ratio":0.5,"desc":"cheaper"}}`
	sameJSON(t, user.data("GET", "/api/user/self/groups", "").Raw, want)
	sameJSON(t, x.guest().data("GET", "/api/user/groups", "").Raw, want)
	change(x, root.data("GET", self, "").Get("id").Int(), func(u *core.User) { u.Group = "hidden" })
	if !root.data("GET", "/api/user/groups", "").Get("hidden").Exists() {
		t.Error("the own group is missing")
	}
}

// A name that looks like another's is no name.
func TestUsernames(t *testing.T) {
	for name, good := range map[string]bool{
		"root": true, "張偉": true, "Zoë": true, "a b": true, "x-1_y.z": true,
		"": false, " a": false, "a ": false, "a@b": false, "ro\x00ot": false, "root\u200b": false, "\u3164root": false, "root\ufe0f": false, "ro\u034fot": false,
		"root\u00ad": false, "\u2800": false, "root\u202e": false, "ro\ufffdt": false, "ro\xffot": false, "\u115froot": false, "root\U000e0041": false,
	} {
		if err := checkUsername(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
