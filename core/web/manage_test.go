package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/configs"
	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/inmem"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/provider"
	"github.com/sluice-gateway/sluice/core/store"
)

// managed is a server on a real store in a temporary folder, with one user of
// each role who calls by access token, and fakes for what lies upstream.
type managed struct {
	t      *testing.T
	srv    *Server
	store  *store.Store
	now    time.Time
	snap   atomic.Pointer[core.Snapshot]
	bearer map[core.Role]string
	user   map[core.Role]*core.User
	relay  *managedRelay
	client *managedClient
}

// managedRelay authenticates by a fixed credential.
type managedRelay struct {
	cred core.Credential
	err  error
}

func (r *managedRelay) Serve(http.ResponseWriter, *http.Request, llm.Operation, string) {}
func (r *managedRelay) Models(http.ResponseWriter, *http.Request, llm.Format, string)   {}
func (r *managedRelay) Authenticate(*http.Request) (core.Credential, int64, error) {
	return r.cred, 0, r.err
}

// managedClient is an upstream of function fields.
type managedClient struct {
	models func(ctx context.Context, ch *core.Channel) ([]string, error)
	test   func(ctx context.Context, ch *core.Channel, model string, op llm.Operation, stream bool) (time.Duration, error)
}

func (c *managedClient) Models(ctx context.Context, ch *core.Channel) ([]string, error) {
	return c.models(ctx, ch)
}
func (c *managedClient) Test(ctx context.Context, ch *core.Channel, model string, op llm.Operation, stream bool) (time.Duration, error) {
	return c.test(ctx, ch, model, op, stream)
}

// managedCodec writes errors in one shape.
type managedCodec struct{ llm.Codec }

func (managedCodec) EncodeError(e llm.Error) []byte {
	b, _ := json.Marshal(map[string]any{"error": map[string]string{"message": e.Message, "code": e.Code}})
	return b
}

// builtinPrices is a shipped price list of two models.
func builtinPrices() map[string]*core.Price {
	ratio := func(text string) *core.Ratio { return new(core.MustRatio(text)) }
	return map[string]*core.Price{
		"gpt-4o":   {Model: "gpt-4o", Ratio: ratio("1.25"), Completion: ratio("4"), Cache: ratio("0.5")},
		"dall-e-3": {Model: "dall-e-3", PerCall: ratio("0.04")},
		"gpt-5*":   {Model: "gpt-5*", Ratio: ratio("0.625"), Completion: ratio("8"), Locked: true},
	}
}

func manage(t *testing.T) *managed {
	t.Helper()
	m := &managed{t: t, now: time.Unix(1_800_000_000, 0).UTC(), bearer: map[core.Role]string{}, user: map[core.Role]*core.User{}, relay: &managedRelay{}, client: &managedClient{}}
	keys, err := store.NewKeyring("crypto secret of the tests", nil)
	must(t, err)
	now := func() time.Time { return m.now }
	m.store, err = store.Open(t.Context(), store.Options{SQLitePath: filepath.Join(t.TempDir(), "web.db"), Keys: keys, Now: now})
	must(t, err)
	t.Cleanup(func() { must(t, m.store.Close()) })
	must(t, m.store.Migrate(t.Context()))
	m.store.OnCommit(func(ctx context.Context, _ core.Revision) { m.refresh(ctx) })
	m.refresh(t.Context())
	for _, role := range []core.Role{core.RoleUser, core.RoleAdmin, core.RoleRoot} {
		u := &core.User{Username: fmt.Sprintf("user-%d", role), Role: role, Status: core.UserEnabled, Group: "default"}
		token := fmt.Sprintf("access-token-of-role-%d-000000", role)
		_, err := m.store.Update(t.Context(), core.SystemActor("test"), func(tx *store.Tx) error {
			if err := tx.CreateUser(t.Context(), u); err != nil {
				return err
			}
			return tx.SetUserAccessToken(t.Context(), u.ID, keys.AccessTokenHash(core.Secret(token)))
		})
		must(t, err)
		m.bearer[role], m.user[role] = token, u
	}
	catalogue, err := provider.Load(configs.Providers())
	must(t, err)
	cfg := config.Default()
	cfg.RateLimit = config.RateLimit{}
	m.srv, err = New(Options{
		Store: m.store, Keys: keys, Relay: m.relay, Codecs: llm.Codecs{llm.OpenAI: managedCodec{}}, Snapshot: m.snap.Load, Prices: builtinPrices(),
		Config: func() *config.Config { return cfg }, Providers: catalogue, Client: m.client, Ready: func(context.Context) []Check { return nil },
		Counters: inmem.NewCounters(inmem.Options{}), Logger: slog.New(slog.DiscardHandler), Now: now,
	})
	must(t, err)
	t.Cleanup(m.srv.Close)
	return m
}

func (m *managed) refresh(ctx context.Context) {
	all, err := m.store.FetchAll(ctx)
	must(m.t, err)
	snap, err := core.NewSnapshot(all.Rev, all.Epoch, all.Rows, builtinPrices())
	must(m.t, err)
	m.snap.Store(snap)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do calls a route as a role and returns status and body.
func (m *managed) do(role core.Role, method, path, body string) (int, string) {
	m.t.Helper()
	r := httptest.NewRequestWithContext(m.t.Context(), method, path, strings.NewReader(body))
	if role != core.RoleGuest {
		r.Header.Set("Authorization", "Bearer "+m.bearer[role])
	}
	w := httptest.NewRecorder()
	m.srv.Handler().ServeHTTP(w, r)
	out, err := io.ReadAll(w.Result().Body)
	must(m.t, err)
	return w.Code, string(out)
}

// ok calls a route that must succeed and returns its data.
func (m *managed) ok(role core.Role, method, path, body string) gjson.Result {
	m.t.Helper()
	status, out := m.do(role, method, path, body)
	if status != http.StatusOK || !gjson.Get(out, "success").Bool() {
		m.t.Fatalf("%s %s: %d %s", method, path, status, out)
	}
	return gjson.Get(out, "data")
}

// refused calls a route that must answer 200 with success false, and returns message and param.
func (m *managed) refused(role core.Role, method, path, body string) (message, param string) {
	m.t.Helper()
	status, out := m.do(role, method, path, body)
	if status != http.StatusOK || gjson.Get(out, "success").Bool() {
		m.t.Fatalf("%s %s %s: %d %s, want a refusal", method, path, body, status, out)
	}
	return gjson.Get(out, "message").String(), gjson.Get(out, "param").String()
}

// sameJSON compares two JSON texts, key order included.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w strings.Builder
	for _, x := range []struct {
		in  string
		out *strings.Builder
	}{{got, &g}, {want, &w}} {
		var v json.RawMessage
		if err := json.Unmarshal([]byte(x.in), &v); err != nil {
			t.Fatalf("%v in %s", err, x.in)
		}
		x.out.WriteString(gjson.Get(string(v), "@ugly").Raw)
	}
	if g.String() != w.String() {
		t.Errorf("got  %s\nwant %s", g.String(), w.String())
	}
}

// eventually polls until cond holds.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatal("it did not happen within 5 s")
		case <-tick.C:
		}
	}
}

// once is a value that a fake sets and a test waits for.
type seen[T any] struct {
	mu   sync.Mutex
	list []T
}

func (s *seen[T]) add(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, v)
}

func (s *seen[T]) all() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]T(nil), s.list...)
}
