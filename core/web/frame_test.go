package web

import (
	"context"
	"encoding/json"
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

	"github.com/alexedwards/argon2id"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/configs"
	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/inmem"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/provider"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSecret   = "session secret of the tests"
	testPassword = "correct horse"
)

// testHash is a stored form of testPassword that costs little to compare; the
// first login renews it.
var testHash = sync.OnceValue(func() core.Secret {
	h, err := argon2id.CreateHash(testPassword, &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32})
	if err != nil {
		panic(err)
	}
	return core.Secret(h)
})

// site is a server on a real store, with a clock and a configuration that tests
// change before they call it.
type site struct {
	t     *testing.T
	srv   *Server
	h     http.Handler
	store *store.Store
	keys  *store.Keyring
	cfg   *config.Config
	clock atomic.Int64
	snap  atomic.Pointer[core.Snapshot]
	relay *fakeRelay
	ready []Check
	logs  *logBuffer
}

// fakeRelay is a relay of function fields.
type fakeRelay struct {
	serve  func(w http.ResponseWriter, r *http.Request, op llm.Operation, model string)
	models func(w http.ResponseWriter, r *http.Request, format llm.Format, model string)
	auth   func(r *http.Request) (core.Credential, error)
}

func (f *fakeRelay) Serve(w http.ResponseWriter, r *http.Request, op llm.Operation, model string) {
	f.serve(w, r, op, model)
}

func (f *fakeRelay) Models(w http.ResponseWriter, r *http.Request, format llm.Format, model string) {
	f.models(w, r, format, model)
}

func (f *fakeRelay) Authenticate(r *http.Request) (core.Credential, int64, error) {
	cred, err := f.auth(r)
	return cred, 0, err
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// shapeCodec writes errors as the formats do, as far as tests look.
type shapeCodec struct {
	llm.Codec
	format llm.Format
}

func (s shapeCodec) EncodeError(e llm.Error) []byte {
	var v any
	switch s.format {
	case llm.Claude:
		v = map[string]any{"type": "error", "error": map[string]any{"type": e.Type, "message": e.Message}, "request_id": e.RequestID}
	case llm.Gemini:
		v = map[string]any{"error": map[string]any{"code": e.Status, "message": e.Message, "status": e.Type}}
	default:
		v = map[string]any{"error": map[string]any{"message": e.Message, "type": e.Type, "param": e.Param, "code": e.Code}}
	}
	b, _ := json.Marshal(v)
	return b
}

func newSite(t *testing.T, change ...func(*Options)) *site {
	t.Helper()
	x := &site{t: t, relay: &fakeRelay{}, logs: &logBuffer{}}
	x.clock.Store(time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC).UnixNano())
	var err error
	x.keys, err = store.NewKeyring("crypto secret of the tests", nil)
	must(t, err)
	x.store, err = store.Open(t.Context(), store.Options{SQLitePath: filepath.Join(t.TempDir(), "web.db"), Keys: x.keys, Now: x.now})
	must(t, err)
	t.Cleanup(func() { _ = x.store.Close() })
	must(t, x.store.Migrate(t.Context()))
	x.store.OnCommit(func(ctx context.Context, _ core.Revision) { x.refresh(ctx) })
	x.refresh(t.Context())
	x.cfg = config.Default()
	x.cfg.RateLimit = config.RateLimit{}
	x.cfg.Secrets.Session = testSecret
	x.relay.auth = x.authenticate
	x.relay.serve = func(w http.ResponseWriter, r *http.Request, op llm.Operation, model string) {
		if _, err := x.authenticate(r); err != nil {
			writeJSON(w, http.StatusUnauthorized, []byte(`{}`))
			return
		}
		writeJSON(w, http.StatusOK, []byte(`{"op":"`+string(op)+`","model":"`+model+`"}`))
	}
	x.relay.models = func(w http.ResponseWriter, r *http.Request, format llm.Format, model string) {
		x.relay.serve(w, r, llm.Operation(format), model)
	}
	catalogue, err := provider.Load(configs.Providers())
	must(t, err)
	client := &managedClient{
		models: func(context.Context, *core.Channel) ([]string, error) { return nil, nil },
		test: func(context.Context, *core.Channel, string, llm.Operation, bool) (time.Duration, error) {
			return time.Millisecond, nil
		},
	}
	o := Options{
		Store: x.store, Keys: x.keys, Relay: x.relay, Snapshot: x.snap.Load, Prices: builtinPrices(), Config: func() *config.Config { return x.cfg },
		Codecs:    llm.Codecs{llm.OpenAI: shapeCodec{format: llm.OpenAI}, llm.Claude: shapeCodec{format: llm.Claude}, llm.Gemini: shapeCodec{format: llm.Gemini}},
		Providers: catalogue, Client: client, Ready: func(context.Context) []Check { return x.ready }, Counters: inmem.NewCounters(inmem.Options{Now: x.now}),
		Node: core.Node{ID: "n", Name: "n"}, Version: "v0.0.0-test", Metrics: telemetry.NewMetrics(prometheus.NewRegistry()),
		Logger: slog.New(slog.NewJSONHandler(x.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: x.now,
		MetricsHandler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
	}
	for _, f := range change {
		f(&o)
	}
	x.srv, err = New(o)
	must(t, err)
	t.Cleanup(x.srv.Close)
	x.h = x.srv.Handler()
	return x
}

func (x *site) now() time.Time          { return time.Unix(0, x.clock.Load()) }
func (x *site) advance(d time.Duration) { x.clock.Add(int64(d)) }

func (x *site) refresh(ctx context.Context) {
	all, err := x.store.FetchAll(ctx)
	must(x.t, err)
	snap, err := core.NewSnapshot(all.Rev, all.Epoch, all.Rows, builtinPrices())
	must(x.t, err)
	x.snap.Store(snap)
}

// authenticate is as much of the relay's as web relies on.
func (x *site) authenticate(r *http.Request) (core.Credential, error) {
	key := strings.TrimPrefix(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), "sk-")
	if key == "" {
		return core.Credential{}, core.Errorf(core.CodeUnauthorized, "no API key")
	}
	cred, _, err := x.store.CredentialByHash(r.Context(), x.keys.KeyHashes(key))
	if core.IsCode(err, core.CodeNotFound) {
		return core.Credential{}, core.Errorf(core.CodeUnauthorized, "unknown API key")
	}
	if err != nil {
		return core.Credential{}, err
	}
	switch {
	case cred.Token.Status != core.TokenEnabled:
		return cred, core.Errorf(core.CodeUnauthorized, "disabled API key")
	case cred.Token.Expired(x.now()):
		return cred, core.Errorf(core.CodeUnauthorized, "expired API key")
	}
	return cred, nil
}

func (x *site) update(fn func(ctx context.Context, tx *store.Tx) error) {
	x.t.Helper()
	_, err := x.store.Update(x.t.Context(), core.SystemActor("test"), func(tx *store.Tx) error { return fn(x.t.Context(), tx) })
	must(x.t, err)
}

// addUser makes a user with testPassword.
func (x *site) addUser(name string, role core.Role) *core.User {
	x.t.Helper()
	u := &core.User{Username: name, DisplayName: name, PasswordHash: testHash(), Role: role, Status: core.UserEnabled, Group: "default", Quota: 1000}
	x.update(func(ctx context.Context, tx *store.Tx) error { return tx.CreateUser(ctx, u) })
	return u
}

// accessToken gives a user one.
func (x *site) accessToken(u *core.User, token string) {
	x.t.Helper()
	x.update(func(ctx context.Context, tx *store.Tx) error {
		return tx.SetUserAccessToken(ctx, u.ID, x.keys.AccessTokenHash(core.Secret(token)))
	})
}

// addToken makes an unlimited API key.
func (x *site) addToken(u *core.User, change func(*core.Token)) (*core.Token, string) {
	x.t.Helper()
	key := store.NewTokenKey()
	t := &core.Token{UserID: u.ID, Name: "t", Status: core.TokenEnabled, UnlimitedQuota: true}
	if change != nil {
		change(t)
	}
	x.update(func(ctx context.Context, tx *store.Tx) error { return tx.CreateToken(ctx, t, key) })
	return t, key.Reveal()
}

// agent is a client with credentials and headers of its own.
type agent struct {
	x      *site
	bearer string
	cookie string
	ip     string
	header map[string]string
}

func (x *site) guest() *agent { return &agent{x: x} }

// as calls with an access token or an API key.
func (x *site) as(bearer string) *agent { return &agent{x: x, bearer: bearer} }

// logIn is a browser that has logged in.
func (x *site) logIn(name string) *agent {
	x.t.Helper()
	a := x.guest()
	r := a.do("POST", "/api/user/login", `{"username":"`+name+`","password":"`+testPassword+`"}`)
	if !r.success() {
		x.t.Fatalf("login of %s: %s", name, r.body)
	}
	a.take(r)
	return a
}

// take keeps the session cookie of a reply.
func (a *agent) take(r *reply) {
	for _, c := range r.res.Cookies() {
		if c.Name == cookieName {
			a.cookie = c.Value
		}
	}
}

type reply struct {
	res    *http.Response
	status int
	body   string
}

func (r *reply) success() bool                { return gjson.Get(r.body, "success").Bool() }
func (r *reply) get(path string) gjson.Result { return gjson.Get(r.body, path) }

func (a *agent) do(method, path, body string) *reply {
	a.x.t.Helper()
	req := httptest.NewRequestWithContext(a.x.t.Context(), method, "http://gateway.example"+path, strings.NewReader(body))
	req.RemoteAddr = "192.0.2.7:4711"
	if a.ip != "" {
		req.RemoteAddr = a.ip
	}
	if a.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+a.bearer)
	}
	if a.cookie != "" {
		req.AddCookie(&http.Cookie{Name: cookieName, Value: a.cookie})
	}
	for k, v := range a.header {
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	a.x.h.ServeHTTP(w, req)
	res := w.Result()
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	must(a.x.t, err)
	return &reply{res: res, status: w.Code, body: string(b)}
}

// must succeed and return data.
func (a *agent) data(method, path, body string) gjson.Result {
	a.x.t.Helper()
	r := a.do(method, path, body)
	if r.status != http.StatusOK || !r.success() {
		a.x.t.Fatalf("%s %s: %d %s", method, path, r.status, r.body)
	}
	return r.get("data")
}

// refused is a call that must fail with a status and a message that has a part.
func (a *agent) refused(method, path, body string, status int, part string) {
	a.x.t.Helper()
	r := a.do(method, path, body)
	if r.status != status || r.success() || !strings.Contains(r.get("message").String(), part) {
		a.x.t.Errorf("%s %s %s: %d %s; want %d and %q", method, path, body, r.status, r.body, status, part)
	}
}
