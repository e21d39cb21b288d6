// Package fault breaks a running node on purpose and asserts what was promised:
// nothing lost, nothing billed twice, bounds kept.
package fault

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/sluice-gateway/sluice/core/provider/fakellm"
	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// site is a node with an upstream, a priced and a free model.
type site struct {
	t    *testing.T
	node *harness.Node
	root *harness.API
	fake *fakellm.Server // upstream of the priced model
}

func newSite(t *testing.T, env map[string]string) *site {
	t.Helper()
	fake := fakellm.New(fakellm.Options{})
	up, free := httptest.NewServer(fake), httptest.NewServer(fakellm.New(fakellm.Options{}))
	t.Cleanup(up.Close)
	t.Cleanup(free.Close)
	env["SLUICE_BILLING__LOG_FLUSH_INTERVAL"] = "20ms"
	n := harness.StartNode(t, harness.NodeOptions{Env: env})
	s := &site{t: t, node: n, root: harness.NewAPI(t, n.URL), fake: fake}
	s.root.Setup()
	for k, v := range map[string]string{
		"ModelRatio": `{"unit":1,"free":0}`, "CompletionRatio": `{"unit":1}`, "PreConsumedQuota": "100",
	} {
		s.root.Option(k, v)
	}
	s.root.Channel(map[string]any{"name": "priced", "type": 1, "models": "unit", "base_url": up.URL})
	s.root.Channel(map[string]any{"name": "free", "type": 1, "models": "free", "base_url": free.URL})
	return s
}

// account makes a user with a token; left reads what is left of the short one.
func (s *site) account(name string, userQuota, tokenQuota int64, short string) (key string, left func() (quota, used int64)) {
	s.t.Helper()
	const password = "account-password-1"
	s.root.Must(http.MethodPost, "/api/user/", map[string]any{"username": name, "password": password, "display_name": name, "role": 1})
	var page struct {
		Items []struct {
			ID       int64  `json:"id"`
			Username string `json:"username"`
		} `json:"items"`
	}
	s.decode(s.root.Must(http.MethodGet, "/api/user/search?keyword="+name, nil), &page)
	for _, u := range page.Items {
		if u.Username == name {
			s.root.Must(http.MethodPost, "/api/user/manage", map[string]any{"id": u.ID, "action": "add_quota", "mode": "override", "value": userQuota})
		}
	}
	api := harness.NewAPI(s.t, s.node.URL)
	api.Login(name, password)
	id, key := api.Token(map[string]any{"name": "t", "unlimited_quota": false, "remain_quota": tokenQuota})
	return key, func() (int64, int64) {
		path := "/api/user/self"
		if short == "token" {
			path = fmt.Sprintf("/api/token/%d", id)
		}
		var v struct {
			Quota       int64 `json:"quota"`
			RemainQuota int64 `json:"remain_quota"`
			UsedQuota   int64 `json:"used_quota"`
		}
		s.decode(api.Must(http.MethodGet, path, nil), &v)
		return v.Quota + v.RemainQuota, v.UsedQuota
	}
}

func (s *site) decode(raw json.RawMessage, v any) {
	s.t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		s.t.Fatalf("%v: %s", err, raw)
	}
}
