package relay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/configs"
	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/llm/claude"
	"github.com/sluice-gateway/sluice/core/llm/gemini"
	"github.com/sluice-gateway/sluice/core/llm/openai"
	"github.com/sluice-gateway/sluice/core/llm/responses"
	"github.com/sluice-gateway/sluice/core/provider"
	"github.com/sluice-gateway/sluice/core/provider/fakellm"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLedger counts what the relay does with money. The hooks replace parts of it.
type fakeLedger struct {
	OnReserve func(core.ReserveRequest) error
	OnSettle  func()

	mu       sync.Mutex
	open     map[*core.Reservation]bool
	reserved []core.ReserveRequest
	settled  []core.Outcome
	refunded []core.Outcome
	notes    []llm.Usage
	noted    []int64 // channels of the notes
	faults   []string
}

var _ core.Ledger = (*fakeLedger)(nil)

func (l *fakeLedger) Reserve(_ context.Context, r core.ReserveRequest) (*core.Reservation, error) {
	if l.OnReserve != nil {
		if err := l.OnReserve(r); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	res := &core.Reservation{ID: fmt.Sprint(len(l.reserved)), Request: r}
	l.open[res] = true
	l.reserved = append(l.reserved, r)
	return res, nil
}

func (l *fakeLedger) Extend(r *core.Reservation, u llm.Usage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open[r] {
		l.faults = append(l.faults, "extend of a closed reservation")
	}
	l.notes = append(l.notes, u)
	l.noted = append(l.noted, r.ChannelID)
}

func (l *fakeLedger) close(r *core.Reservation, how string) {
	if !l.open[r] {
		l.faults = append(l.faults, how+" of a closed reservation")
	}
	delete(l.open, r)
}

func (l *fakeLedger) Settle(ctx context.Context, r *core.Reservation, o core.Outcome) core.Charge {
	if l.OnSettle != nil {
		l.OnSettle()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil {
		l.faults = append(l.faults, "settle with a dead context")
	}
	l.close(r, "settle")
	l.settled = append(l.settled, o)
	return core.Charge{Quota: o.Usage.Total()}
}

func (l *fakeLedger) Refund(ctx context.Context, r *core.Reservation, o core.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil {
		l.faults = append(l.faults, "refund with a dead context")
	}
	l.close(r, "refund")
	l.refunded = append(l.refunded, o)
}

// fakeTokens is a TokenSource of a map.
type fakeTokens struct {
	OnLookup func(key string) error
	keys     map[string]core.Credential
}

func (f *fakeTokens) Lookup(_ context.Context, key string) (core.Credential, error) {
	if f.OnLookup != nil {
		if err := f.OnLookup(key); err != nil {
			return core.Credential{}, err
		}
	}
	if c, ok := f.keys[key]; ok {
		return c, nil
	}
	return core.Credential{}, core.Errorf(core.CodeUnauthorized, "Invalid API key.")
}

const (
	testKey  = "userkey"
	adminKey = "adminkey"
)

// rig is a relay between a client and fake upstreams.
type rig struct {
	t      testing.TB
	ledger *fakeLedger
	tokens *fakeTokens
	cfg    *config.Config
	relay  *Relay
	url    string
	reg    *prometheus.Registry
	client *http.Client
	logs   *syncBuffer

	rows     core.Rows
	snap     atomic.Pointer[core.Snapshot]
	now      func() time.Time
	clientIP netip.Addr
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newRig makes a rig without channels. Change r.cfg before the first request.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, cfg: config.Default(), logs: &syncBuffer{}, clientIP: netip.MustParseAddr("192.0.2.7")}
	r.ledger = &fakeLedger{open: map[*core.Reservation]bool{}}
	user := &core.User{ID: 1, Username: "u", Role: core.RoleUser, Status: core.UserEnabled, Group: "default"}
	admin := &core.User{ID: 2, Username: "a", Role: core.RoleAdmin, Status: core.UserEnabled, Group: "default"}
	r.tokens = &fakeTokens{keys: map[string]core.Credential{
		testKey:  {User: user, Token: &core.Token{ID: 1, UserID: 1, Status: core.TokenEnabled, UnlimitedQuota: true}},
		adminKey: {User: admin, Token: &core.Token{ID: 2, UserID: 2, Status: core.TokenEnabled, UnlimitedQuota: true}},
	}}
	r.rows = core.Rows{Channels: map[int64]*core.Channel{}, Options: map[string]string{}, Groups: map[string]*core.Group{
		"default": {Name: "default", Ratio: core.RatioOne, HasRatio: true, Usable: true},
	}}
	cat, err := provider.Load(configs.Providers())
	if err != nil {
		t.Fatal(err)
	}
	tr := provider.NewTransport(provider.TransportOptions{})
	t.Cleanup(tr.CloseIdleConnections)
	r.reg = prometheus.NewRegistry()
	r.relay = New(Options{
		Snapshot: r.snap.Load, Tokens: r.tokens, Ledger: r.ledger, Providers: cat, Transport: tr,
		Codecs:   llm.Codecs{llm.OpenAI: openai.New(), llm.Responses: responses.New(), llm.Claude: claude.New(), llm.Gemini: gemini.New()},
		Config:   func() *config.Config { return r.cfg },
		Describe: testDescribe,
		ClientIP: func(*http.Request) netip.Addr { return r.clientIP },
		Logger:   slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics:  telemetry.NewMetrics(r.reg),
		Now: func() time.Time {
			if r.now != nil {
				return r.now()
			}
			return time.Now()
		},
	})
	srv := httptest.NewServer(http.HandlerFunc(r.route))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	r.client = srv.Client()
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r.rebuild()
	return r
}

var testRoutes = map[string]llm.Operation{
	"/v1/chat/completions": llm.OpChat, "/v1/completions": llm.OpCompletions, "/v1/embeddings": llm.OpEmbeddings,
	"/v1/moderations": llm.OpModerations, "/v1/rerank": llm.OpRerank, "/v1/images/generations": llm.OpImageGenerations,
	"/v1/images/edits": llm.OpImageEdits, "/v1/audio/transcriptions": llm.OpTranscriptions,
	"/v1/audio/translations": llm.OpTranslations, "/v1/audio/speech": llm.OpSpeech, "/v1/responses": llm.OpResponses,
	"/v1/messages": llm.OpMessages, "/v1/messages/count_tokens": llm.OpMessagesCount,
}

func (r *rig) route(w http.ResponseWriter, req *http.Request) {
	req = req.WithContext(core.WithRequestID(req.Context(), "req-test"))
	if req.Method == http.MethodGet {
		format := llm.OpenAI
		switch {
		case strings.HasPrefix(req.URL.Path, "/v1beta/models"):
			format = llm.Gemini
		case req.Header.Get("X-Api-Key") != "":
			format = llm.Claude
		}
		_, model, _ := strings.Cut(req.URL.Path, "/models")
		r.relay.Models(w, req, format, strings.TrimPrefix(model, "/"))
		return
	}
	if op, ok := testRoutes[req.URL.Path]; ok {
		r.relay.Serve(w, req, op, "")
		return
	}
	if _, rest, ok := strings.Cut(req.URL.Path, "/models/"); ok {
		model, verb, _ := strings.Cut(rest, ":")
		r.relay.Serve(w, req, llm.Operation(verb), model)
		return
	}
	http.NotFound(w, req)
}

// testDescribe is a small stand-in for web's table.
func testDescribe(_ llm.Format, e *core.Error) llm.Error {
	status := map[core.Code]int{
		core.CodeUnauthorized: 401, core.CodeAccessDenied: 403, core.CodeUserDisabled: 403, core.CodeModelForbidden: 403,
		core.CodeModelNotFound: 503, core.CodeUserQuota: 403, core.CodeTokenQuota: 403, core.CodeBodyTooLarge: 413,
		core.CodeOverloaded: 503, core.CodeStoreUnavailable: 503, core.CodeUnsupportedMedia: 415, core.CodeConvert: 400,
		core.CodeUpstreamConnect: 502, core.CodeUpstreamTimeout: 504, core.CodeUpstreamStatus: 502, core.CodeUpstreamBody: 502,
		core.CodeChannelConfig: 502, core.CodeChannelKey: 502, core.CodeInternal: 500,
	}[e.Code]
	if status == 0 {
		status = 400
	}
	if e.Status != 0 {
		status = e.Status
	}
	return llm.Error{Status: status, Type: "new_api_error", Code: string(e.Code), Param: e.Param, Message: e.Message, RetryAfter: e.RetryAfter}
}

// rebuild makes a snapshot of the rows.
func (r *rig) rebuild() {
	r.t.Helper()
	for _, c := range r.rows.Channels {
		if err := c.Prepare(); err != nil {
			r.t.Fatal(err)
		}
	}
	s, err := core.NewSnapshot(1, "e", r.rows, map[string]*core.Price{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.snap.Store(s)
}

// upstream adds a channel to a new fake LLM; change may alter it.
func (r *rig) upstream(id int64, fake string, change ...func(*core.Channel)) *fakellm.Server {
	r.t.Helper()
	f := fakellm.New(fakellm.Options{Record: 64, Fake: fake})
	srv := httptest.NewServer(f)
	r.t.Cleanup(srv.Close)
	r.channel(id, srv.URL, change...)
	return f
}

// handler adds a channel to an upstream of the test's own.
func (r *rig) handler(id int64, h http.HandlerFunc, change ...func(*core.Channel)) {
	r.t.Helper()
	srv := httptest.NewServer(h)
	r.t.Cleanup(srv.Close)
	r.channel(id, srv.URL, change...)
}

func (r *rig) channel(id int64, url string, change ...func(*core.Channel)) {
	c := &core.Channel{ID: id, Type: 1, Key: "sk-upstreamsecret", Name: fmt.Sprint("c", id), Status: core.ChannelEnabled,
		BaseURL: url, Models: []string{"m"}, Groups: []string{"default"}, Rev: 1}
	for _, f := range change {
		f(c)
	}
	r.rows.Channels[id] = c
	r.rebuild()
}

func priority(n int64) func(*core.Channel)     { return func(c *core.Channel) { c.Priority = n } }
func ofType(n int) func(*core.Channel)         { return func(c *core.Channel) { c.Type = n } }
func inGroups(g ...string) func(*core.Channel) { return func(c *core.Channel) { c.Groups = g } }

const chatBody = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`

func chatWith(extra string) string {
	return strings.TrimSuffix(chatBody, "}") + "," + extra + "}"
}

// post sends a request with the usual key.
func (r *rig) post(path, body string, change ...func(*http.Request)) *reply {
	r.t.Helper()
	res := r.open(path, body, change...)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return &reply{t: r.t, Response: res, body: string(b), err: err}
}

func (r *rig) open(path, body string, change ...func(*http.Request)) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer sk-"+testKey)
	for _, f := range change {
		f(req)
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func header(k, v string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(k, v) }
}

type reply struct {
	t testing.TB
	*http.Response
	body string
	err  error // of reading the body: a broken connection
}

// want fails the test unless the status is as wanted.
func (p *reply) want(status int) *reply {
	p.t.Helper()
	if p.StatusCode != status {
		p.t.Fatalf("status %d, want %d: %s", p.StatusCode, status, p.body)
	}
	return p
}

func (p *reply) has(parts ...string) *reply {
	p.t.Helper()
	for _, s := range parts {
		if !strings.Contains(p.body, s) {
			p.t.Fatalf("no %q in: %s", s, p.body)
		}
	}
	return p
}

func (p *reply) lacks(parts ...string) *reply {
	p.t.Helper()
	for _, s := range parts {
		if strings.Contains(p.body, s) {
			p.t.Fatalf("%q in: %s", s, p.body)
		}
	}
	return p
}

func (p *reply) json() map[string]any {
	p.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(p.body), &m); err != nil {
		p.t.Fatalf("not JSON: %s", p.body)
	}
	return m
}

// money waits until nothing is reserved and checks how often was settled and refunded.
func (r *rig) money(settled, refunded int) {
	r.t.Helper()
	eventually(r.t, func() error {
		r.ledger.mu.Lock()
		defer r.ledger.mu.Unlock()
		if len(r.ledger.open) != 0 || len(r.ledger.settled) != settled || len(r.ledger.refunded) != refunded {
			return fmt.Errorf("open %d, settled %d, refunded %d; want 0, %d, %d", len(r.ledger.open), len(r.ledger.settled), len(r.ledger.refunded), settled, refunded)
		}
		return nil
	})
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	if len(r.ledger.faults) > 0 {
		r.t.Fatalf("ledger: %v", r.ledger.faults)
	}
}

func (r *rig) lastSettled() core.Outcome {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return r.ledger.settled[len(r.ledger.settled)-1]
}

func (r *rig) lastRefunded() core.Outcome {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return r.ledger.refunded[len(r.ledger.refunded)-1]
}

func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// frames reads an event stream frame by frame.
func frames(body io.Reader) func() (string, error) {
	br := bufio.NewReader(body)
	return func() (string, error) {
		var b strings.Builder
		for {
			line, err := br.ReadString('\n')
			b.WriteString(line)
			if err != nil {
				return b.String(), err
			}
			if line == "\n" || line == "\r\n" {
				return b.String(), nil
			}
		}
	}
}
