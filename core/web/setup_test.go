package web

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
)

func setupJSON(name, password, confirm string) string {
	return fmt.Sprintf(`{"username":%q,"password":%q,"confirmPassword":%q,"SelfUseModeEnabled":true,"DemoSiteEnabled":false}`, name, password, confirm)
}

func TestSetup(t *testing.T) {
	x := newSite(t)
	a := x.guest()
	if r := a.do("GET", "/api/setup", ""); r.body != `{"data":{"database_type":"sqlite","root_init":false,"status":false},"success":true}` {
		t.Errorf("before: %s", r.body)
	}
	if a.data("GET", "/api/status", "").Get("setup").Bool() {
		t.Error("status says that it is set up")
	}
	for _, c := range []struct{ body, message string }{
		{setupJSON("root", "1234567", "1234567"), "password: must have 8 to 128"},
		{setupJSON("root", testPassword, "another"), "confirmPassword: differs"},
		{setupJSON("averylongname", testPassword, testPassword), "username: must be at most 12"},
		{setupJSON("", testPassword, testPassword), "username: is required"},
		{setupJSON("a b\t", testPassword, testPassword), "username: must not"},
	} {
		a.refused("POST", "/api/setup", c.body, 200, c.message)
	}
	if r := a.do("POST", "/api/setup", setupJSON("root", testPassword, testPassword)); !r.success() {
		t.Fatal(r.body)
	}
	a.refused("POST", "/api/setup", setupJSON("root2", testPassword, testPassword), 200, "set up already")
	if r := a.do("GET", "/api/setup", ""); !r.get("data.status").Bool() {
		t.Errorf("after: %s", r.body)
	}
	root := x.logIn("root")
	me := root.data("GET", self, "")
	if me.Get("role").Int() != 100 || me.Get("quota").Int() != 100_000_000 {
		t.Errorf("%s", me)
	}
	if s := a.data("GET", "/api/status", ""); !s.Get("setup").Bool() || !s.Get("self_use_mode_enabled").Bool() || s.Get("demo_site_enabled").Bool() {
		t.Errorf("%s", s)
	}
	root.refused("DELETE", self, "", 200, "root account")
}

func TestSetupOnlyOnce(t *testing.T) {
	x := newSite(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			if r := x.guest().do("POST", "/api/setup", setupJSON(fmt.Sprintf("root%d", i), testPassword, testPassword)); r.success() {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	roots, err := x.store.CountUsers(t.Context())
	must(t, err)
	if won != 1 || roots != 1 {
		t.Errorf("%d callers won, %d users", won, roots)
	}
}

// The keys of New API's status with the kind of each value; clients rely on both.
func TestStatusKeys(t *testing.T) {
	x := newSite(t)
	r := x.guest().do("GET", "/api/status", "")
	if !strings.HasPrefix(r.body, `{"success":true,"message":"","data":{`) {
		t.Errorf("envelope: %.60s", r.body)
	}
	data := r.get("data").Map()
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(data)) {
		kind := data[key].Type.String()
		if data[key].IsArray() {
			kind = "Array"
		}
		if kind == "True" || kind == "False" {
			kind = "Bool"
		}
		fmt.Fprintf(&b, "%s %s\n", key, kind)
	}
	golden := filepath.Join("testdata", "status_keys.txt")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		must(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	for key, want := range map[string]string{"version": "v0.0.0-test", "system_name": "Sluice", "quota_per_unit": "500000", "quota_display_type": "USD", "chats": "[]", "usd_exchange_rate": "7.3"} {
		if got := data[key]; got.String() != want {
			t.Errorf("%s is %s", key, got.Raw)
		}
	}
}

func TestProbes(t *testing.T) {
	x := newSite(t)
	a := x.guest()
	x.ready = []Check{{Name: "started", OK: true, Required: true}, {Name: "database", OK: false, Detail: "does not answer"}}
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		if r := a.do("GET", path, ""); r.status != 200 || r.body != `{"status":"ok"}` {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		if r := a.do("HEAD", path, ""); r.status != 200 {
			t.Errorf("HEAD %s: %d", path, r.status)
		}
	}
	sameJSON(t, a.do("GET", "/readyz?verbose", "").body, `{"status":"ok","checks":[{"name":"started","ok":true,"required":true},{"name":"database","ok":false,"required":false,"detail":"does not answer"}]}`)
	x.ready = append(x.ready, Check{Name: "draining", OK: false, Required: true})
	if r := a.do("GET", "/readyz", ""); r.status != 503 || r.res.Header.Get("Retry-After") == "" {
		t.Errorf("draining: %d", r.status)
	}
	if r := a.do("GET", "/livez", ""); r.status != 200 {
		t.Errorf("live while draining: %d", r.status)
	}
}

func TestMetricsOnMainListener(t *testing.T) {
	x := newSite(t)
	if r := x.as("anything").do("GET", "/metrics", ""); r.status != 404 {
		t.Errorf("without a token configured: %d", r.status)
	}
	x.cfg.Metrics.Token = "metrics-token-0123456789"
	if r := x.guest().do("GET", "/metrics", ""); r.status != 401 {
		t.Errorf("without a token: %d", r.status)
	}
	if r := x.as("metrics-token-012345678").do("GET", "/metrics", ""); r.status != 401 {
		t.Errorf("with a wrong token: %d", r.status)
	}
	if r := x.as("metrics-token-0123456789").do("GET", "/metrics", ""); r.status != 200 || r.body != "metrics" {
		t.Errorf("with the token: %d %s", r.status, r.body)
	}
	for range failPair {
		x.guest().do("GET", "/metrics", "")
		x.as("guess").do("GET", "/metrics", "")
	}
	if r := x.as("metrics-token-0123456789").do("GET", "/metrics", ""); r.status != 429 {
		t.Errorf("after many guesses: %d", r.status)
	}
	x.advance(failBlock)
	if r := x.as("metrics-token-0123456789").do("GET", "/metrics", ""); r.status != 200 {
		t.Errorf("after the block: %d", r.status)
	}
}

// The database goes away: status and probes answer, reading and writing say
// 503 and when to try again.
func TestDatabaseAway(t *testing.T) {
	x := newSite(t)
	u := x.addUser("alice", core.RoleRoot)
	x.accessToken(u, "bearer-of-alice-0000000000000000")
	browser, a := x.logIn("alice"), x.as("bearer-of-alice-0000000000000000")
	must(t, x.store.Close())
	for _, path := range []string{"/api/status", "/livez"} {
		if r := x.guest().do("GET", path, ""); r.status != 200 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if !x.guest().data("GET", "/api/status", "").Get("setup").Bool() {
		t.Error("a console would offer to set up")
	}
	for _, c := range [][3]string{
		{"GET", "/api/setup", ""},
		{"POST", "/api/setup", setupJSON("root", testPassword, testPassword)},
		{"POST", "/api/user/login", login("alice", testPassword)},
		{"PUT", self, `{"display_name":"x"}`},
		{"POST", "/api/token/", `{"name":"x"}`},
		{"POST", "/api/user/", `{"username":"bob","password":"` + testPassword + `"}`},
		{"PUT", "/api/option/", `{"key":"Notice","value":"x"}`},
		{"GET", "/api/user/logout", ""},
	} {
		for _, who := range []*agent{browser, a} {
			r := who.do(c[0], c[1], c[2])
			if r.status != http.StatusServiceUnavailable || r.success() || r.res.Header.Get("Retry-After") == "" || !gjson.Valid(r.body) {
				t.Errorf("%s %s: %d %s, Retry-After %q", c[0], c[1], r.status, r.body, r.res.Header.Get("Retry-After"))
			}
		}
	}
}
