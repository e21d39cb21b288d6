// Package compat runs the vendors' official SDKs against a node: the clients
// must not notice that they do not talk to the vendor.
package compat

import (
	"net/http/httptest"
	"os"
	"testing"

	"github.com/sluice-gateway/sluice/core/provider/fakellm"
	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

// site is one node for all tests of the package.
type site struct {
	url  string
	key  string
	poor string // a key without quota
	fake *fakellm.Server
}

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func newSite(t *testing.T) site {
	t.Helper()
	fake := fakellm.New(fakellm.Options{})
	up := httptest.NewServer(fake)
	t.Cleanup(up.Close)
	n := harness.StartNode(t, harness.NodeOptions{})
	api := harness.NewAPI(t, n.URL)
	api.Setup()
	api.Option("ModelRatio", `{"chat-1":1,"embed-1":1,"claude-1":1,"gemini-1":1,"gemini-embed-1":1,"no-such-model":1}`)
	api.Option("RetryTimes", 0)
	for _, ch := range []map[string]any{
		{"name": "openai", "type": 1, "models": "chat-1,embed-1"},
		{"name": "claude", "type": 14, "models": "claude-1"},
		{"name": "gemini", "type": 24, "models": "gemini-1,gemini-embed-1"},
	} {
		ch["base_url"] = up.URL
		api.Channel(ch)
	}
	s := site{url: n.URL, fake: fake}
	_, s.key = api.Token(map[string]any{"name": "rich"})
	_, s.poor = api.Token(map[string]any{"name": "poor", "unlimited_quota": false, "remain_quota": 1})
	return s
}
