package harness

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"time"
)

// RootPassword is the password that Setup gives root.
const RootPassword = "correct-horse-battery"

// API drives a node's management API the way an operator's script does.
type API struct {
	Base   string
	Client *http.Client
	t      TB
}

// Reply is New API's envelope.
type Reply struct {
	Status  int             `json:"-"`
	Header  http.Header     `json:"-"`
	Raw     []byte          `json:"-"`
	Success bool            `json:"success"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
}

// NewAPI returns a client with a cookie jar of its own.
func NewAPI(t TB, base string) *API {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &API{Base: base, Client: &http.Client{Jar: jar, Timeout: 30 * time.Second}, t: t}
}

// Do sends body as JSON (nil = none) and returns the reply whatever it says.
func (a *API) Do(method, path string, body any) Reply {
	a.t.Helper()
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			a.t.Fatalf("%v", err)
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, a.Base+path, rd)
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.Client.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	for _, c := range resp.Cookies() {
		Plant("session cookie", c.Value)
	}
	if what := FindCanary(raw); what != "" && !reveals(method, path) {
		a.t.Fatalf("%s %s shows a secret: %s", method, path, what)
	}
	r := Reply{Status: resp.StatusCode, Header: resp.Header, Raw: raw}
	_ = json.Unmarshal(raw, &r)
	return r
}

// Must is Do for calls that have to succeed; it returns data.
func (a *API) Must(method, path string, body any) json.RawMessage {
	a.t.Helper()
	r := a.Do(method, path, body)
	if !r.Success {
		a.t.Fatalf("%s %s: status %d: %s", method, path, r.Status, r.Raw)
	}
	return r.Data
}

// Setup makes root and logs in.
func (a *API) Setup() {
	a.t.Helper()
	a.Must(http.MethodPost, "/api/setup", map[string]any{"username": "root", "password": RootPassword, "confirmPassword": RootPassword})
	a.Login("root", RootPassword)
}

// Login logs in; the jar keeps the cookie.
func (a *API) Login(name, password string) {
	a.t.Helper()
	Plant("password", password)
	a.Must(http.MethodPost, "/api/user/login", map[string]any{"username": name, "password": password})
}

// Option sets an option.
func (a *API) Option(key string, value any) {
	a.t.Helper()
	a.Must(http.MethodPut, "/api/option/", map[string]any{"key": key, "value": value})
}

// Channel makes a channel and returns its id.
func (a *API) Channel(fields map[string]any) int64 {
	a.t.Helper()
	ch := map[string]any{"status": 1, "group": "default", "key": "canary-channel-key-" + rand.Text()}
	for k, v := range fields {
		ch[k] = v
	}
	Plant("channel key", fmt.Sprint(ch["key"]))
	a.Must(http.MethodPost, "/api/channel/", map[string]any{"mode": "single", "channel": ch})
	var page struct {
		Items []struct {
			ID   int64  `json:"id"`
			Name string `json:"name"`
		} `json:"items"`
	}
	a.decode(a.Must(http.MethodGet, "/api/channel/?p=1&page_size=100&id_sort=true", nil), &page)
	for _, c := range page.Items {
		if c.Name == fmt.Sprint(ch["name"]) {
			return c.ID
		}
	}
	a.t.Fatalf("channel %v was made and is not listed", ch["name"])
	return 0
}

// Token makes a token and returns its id and key with "sk-".
func (a *API) Token(fields map[string]any) (id int64, key string) {
	a.t.Helper()
	tok := map[string]any{"name": "t", "expired_time": -1, "unlimited_quota": true}
	for k, v := range fields {
		tok[k] = v
	}
	var out struct {
		ID  int64  `json:"id"`
		Key string `json:"key"`
	}
	a.decode(a.Must(http.MethodPost, "/api/token/", tok), &out)
	if out.Key == "" {
		a.t.Fatalf("the new token's key was not returned")
	}
	if !strings.HasPrefix(out.Key, "sk-") {
		out.Key = "sk-" + out.Key
	}
	Plant("API key", strings.TrimPrefix(out.Key, "sk-"))
	return out.ID, out.Key
}

func (a *API) decode(raw json.RawMessage, v any) {
	a.t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		a.t.Fatalf("%v: %s", err, raw)
	}
}
