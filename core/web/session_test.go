package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

const self = "/api/user/self"

func login(name, password string) string {
	return `{"username":"` + name + `","password":"` + password + `"}`
}

func TestLogin(t *testing.T) {
	x := newSite(t)
	u := x.addUser("alice", core.RoleAdmin)
	r := x.guest().do("POST", "/api/user/login", login("alice", testPassword))
	want := fmt.Sprintf(`{"success":true,"message":"","data":{"display_name":"alice","group":"default","id":%d,"role":10,"status":1,"username":"alice"}}`, u.ID)
	if r.status != 200 || r.body != want {
		t.Errorf("%d %s\nwant %s", r.status, r.body, want)
	}
	cookies := r.res.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v", cookies)
	}
	c := cookies[0]
	if c.Name != "session" || c.Path != "/" || !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteStrictMode || c.MaxAge != 2592000 {
		t.Errorf("cookie %+v", c)
	}
	if strings.Contains(c.Value, "alice") || len(c.Value) < 64 {
		t.Errorf("cookie value %q", c.Value)
	}
	x.guest().refused("POST", "/api/user/login", login("alice", "wrong horse"), 200, "username or password")
	x.guest().refused("POST", "/api/user/login", login("nobody", testPassword), 200, "username or password")
	x.guest().refused("POST", "/api/user/login", login("alice", ""), 200, "password: is required")
	x.guest().refused("GET", self, "", 401, "not logged in")

	t.Run("by e-mail", func(t *testing.T) {
		x.update(func(ctx context.Context, tx *store.Tx) error {
			u, err := tx.UserForUpdate(ctx, u.ID)
			if err != nil {
				return err
			}
			u.Email = "alice@example.com"
			return tx.SaveUser(ctx, u)
		})
		x.guest().data("POST", "/api/user/login", login("alice@example.com", testPassword))
	})
	t.Run("secure behind TLS", func(t *testing.T) {
		a := x.guest()
		a.ip, a.header = "10.0.0.1:1", map[string]string{"X-Forwarded-Proto": "https"}
		if c := a.do("POST", "/api/user/login", login("alice", testPassword)).res.Cookies()[0]; !c.Secure {
			t.Error("not Secure behind a proxy that speaks TLS")
		}
		a.ip = "203.0.113.1:1"
		if c := a.do("POST", "/api/user/login", login("alice", testPassword)).res.Cookies()[0]; c.Secure {
			t.Error("a stranger's X-Forwarded-Proto counts")
		}
		x.cfg.Session.CookieSecure = true
		if c := x.guest().do("POST", "/api/user/login", login("alice", testPassword)).res.Cookies()[0]; !c.Secure {
			t.Error("session.cookie_secure has no effect")
		}
	})
	t.Run("switched off", func(t *testing.T) {
		x.update(func(ctx context.Context, tx *store.Tx) error {
			return tx.PutOption(ctx, "PasswordLoginEnabled", "false")
		})
		x.guest().refused("POST", "/api/user/login", login("alice", testPassword), 200, "switched")
	})
}

func TestSessionIsRevocable(t *testing.T) {
	x := newSite(t)
	u := x.addUser("alice", core.RoleAdmin)
	alive := func(a *agent, status int) {
		t.Helper()
		if r := a.do("GET", self, ""); r.status != status {
			t.Errorf("status %d, want %d: %s", r.status, status, r.body)
		}
	}
	t.Run("log out", func(t *testing.T) {
		a, b := x.logIn("alice"), x.logIn("alice")
		r := a.do("GET", "/api/user/logout", "")
		if c := r.res.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 || c[0].Value != "" {
			t.Errorf("cookie %v", c)
		}
		alive(a, 401)
		alive(b, 200)
	})
	t.Run("rotated at login", func(t *testing.T) {
		a := x.logIn("alice")
		old := a.cookie
		a.take(a.do("POST", "/api/user/login", login("alice", testPassword)))
		if a.cookie == old {
			t.Error("the cookie did not change")
		}
		alive(a, 200)
		a.cookie = old
		alive(a, 401)
	})
	t.Run("forged", func(t *testing.T) {
		a := x.logIn("alice")
		id, sig, _ := strings.Cut(a.cookie, ".")
		last := "A"
		if strings.HasSuffix(id, last) {
			last = "B"
		}
		for _, v := range []string{id, id + ".", id[:len(id)-1] + last + "." + sig, id + "." + sig[:len(sig)-2] + "xx", "." + sig, strings.Repeat("a", 5000)} {
			alive(&agent{x: x, cookie: v}, 401)
		}
		x.cfg.Secrets.Session = "another secret of the tests"
		alive(a, 401)
		x.cfg.Secrets.Session = testSecret
		alive(a, 200)
	})
	t.Run("expired", func(t *testing.T) {
		a := x.logIn("alice")
		x.advance(x.cfg.Session.MaxAge - time.Second)
		alive(a, 200)
		x.advance(2 * time.Second)
		alive(a, 401)
	})
	t.Run("too many", func(t *testing.T) {
		x.cfg.Session.ActiveLimit = 2
		defer func() { x.cfg.Session.ActiveLimit = 50 }()
		first := x.logIn("alice")
		x.advance(time.Second)
		x.logIn("alice")
		x.advance(time.Second)
		last := x.logIn("alice")
		alive(first, 401)
		alive(last, 200)
	})
	t.Run("password changed by oneself", func(t *testing.T) {
		a, b := x.logIn("alice"), x.logIn("alice")
		a.refused("PUT", self, `{"password":"a new password"}`, 200, "original_password: is required")
		a.refused("PUT", self, `{"password":"a new password","original_password":"guess guess"}`, 200, "original_password: is wrong")
		alive(b, 200)
		r := a.do("PUT", self, `{"password":"a new password","original_password":"`+testPassword+`"}`)
		if !r.success() {
			t.Fatal(r.body)
		}
		alive(b, 401)
		alive(a, 401)
		a.take(r)
		alive(a, 200)
		x.guest().refused("POST", "/api/user/login", login("alice", testPassword), 200, "")
		x.guest().data("POST", "/api/user/login", login("alice", "a new password"))
	})
	t.Run("role changes at once", func(t *testing.T) {
		a := &agent{x: x}
		a.take(a.do("POST", "/api/user/login", login("alice", "a new password")))
		a.data("GET", "/api/user/", "")
		change(x, u.ID, func(u *core.User) { u.Role = core.RoleUser })
		a.refused("GET", "/api/user/", "", 403, "role")
		change(x, u.ID, func(u *core.User) { u.Status = core.UserDisabled })
		r := a.do("GET", self, "")
		if r.status != 401 || r.get("code").String() != "AUTH_USER_DISABLED" {
			t.Errorf("disabled: %d %s", r.status, r.body)
		}
		x.guest().refused("POST", "/api/user/login", login("alice", "a new password"), 200, "disabled")
	})
	t.Run("deleted", func(t *testing.T) {
		x.addUser("bob", core.RoleUser)
		a := x.logIn("bob")
		a.do("DELETE", self, "")
		alive(a, 401)
	})
}

func change(x *site, id int64, fn func(*core.User)) {
	x.t.Helper()
	x.update(func(ctx context.Context, tx *store.Tx) error {
		u, err := tx.UserForUpdate(ctx, id)
		if err != nil {
			return err
		}
		fn(u)
		return tx.SaveUser(ctx, u)
	})
}

func TestAccessToken(t *testing.T) {
	x := newSite(t)
	u := x.addUser("alice", core.RoleUser)
	browser := x.logIn("alice")
	token := browser.data("GET", "/api/user/token", "").String()
	if len(token) != 32 {
		t.Errorf("token %q", token)
	}
	a := x.as(token)
	if id := a.data("GET", self, "").Get("id").Int(); id != u.ID {
		t.Errorf("id %d", id)
	}
	bare := x.guest()
	bare.header = map[string]string{"Authorization": token}
	bare.data("GET", self, "")
	t.Run("New-Api-User", func(t *testing.T) {
		a.header = map[string]string{"New-Api-User": fmt.Sprint(u.ID)}
		if r := a.do("GET", self, ""); r.status != 200 || r.res.Header.Get("Auth-Version") != authVersion {
			t.Errorf("%d %v", r.status, r.res.Header)
		}
		for _, v := range []string{fmt.Sprint(u.ID + 1), "x", fmt.Sprintf("0%d", u.ID)} {
			a.header["New-Api-User"] = v
			a.refused("GET", self, "", 401, "New-Api-User")
			browser.header = a.header
			browser.refused("GET", self, "", 401, "New-Api-User")
		}
		a.header, browser.header = nil, nil
	})
	t.Run("another scheme is a proxy's", func(t *testing.T) {
		browser.header = map[string]string{"Authorization": "Basic dXNlcjpwYXNz"}
		browser.data("GET", self, "")
		browser.header = nil
	})
	t.Run("an ended session falls back to the token", func(t *testing.T) {
		b := &agent{x: x, cookie: x.logIn("alice").cookie, bearer: token}
		(&agent{x: x, cookie: b.cookie}).do("GET", "/api/user/logout", "")
		b.data("GET", self, "")
	})
	t.Run("replaced", func(t *testing.T) {
		browser.data("GET", "/api/user/token", "")
		a.refused("GET", self, "", 401, "access token")
	})
	x.as("no-such-token").refused("GET", self, "", 401, "access token")
}

// TestCrossOrigin is about what another site's page can make a browser send.
func TestCrossOrigin(t *testing.T) {
	x := newSite(t)
	u := x.addUser("alice", core.RoleUser)
	browser := x.logIn("alice")
	x.accessToken(u, "token-of-alice-000000000000000000")
	cross := map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
	old := map[string]string{"Origin": "https://evil.example"}
	same := map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://gateway.example"}
	for _, c := range []struct {
		name         string
		header       map[string]string
		method, path string
		refused      bool
	}{
		{"same origin", same, "PUT", self, false},
		{"no browser", nil, "PUT", self, false},
		{"cross site", cross, "PUT", self, true},
		{"cross site, old browser", old, "PUT", self, true},
		{"sibling", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://other.gateway.example"}, "POST", "/api/token/", true},
		{"reading", cross, "GET", self, false},
		{"a GET that changes something", cross, "GET", "/api/user/token", true},
		{"log out", cross, "GET", "/api/user/logout", true},
		{"log in", cross, "POST", "/api/user/login", true},
		{"set up", cross, "POST", "/api/setup", true},
		{"register", cross, "POST", "/api/user/register", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			browser.header = c.header
			r := browser.do(c.method, c.path, "{}")
			if got := r.status == 403 && r.get("code").String() == "AUTH_ORIGIN_FORBIDDEN"; got != c.refused {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	browser.header = cross
	t.Run("trusted by configuration", func(t *testing.T) {
		x.cfg.Session.TrustedURLs = []string{"https://evil.example/"}
		browser.data("GET", self, "")
		if r := browser.do("PUT", self, "{}"); r.status != 200 {
			t.Errorf("session.trusted_urls: %d %s", r.status, r.body)
		}
		x.cfg.Session.TrustedURLs = nil
		x.cfg.Node.FrontendBaseURL = "https://evil.example"
		if r := browser.do("PUT", self, "{}"); r.status != 200 {
			t.Errorf("node.frontend_base_url: %d %s", r.status, r.body)
		}
		x.cfg.Node.FrontendBaseURL = ""
	})
	t.Run("an access token is no cookie", func(t *testing.T) {
		a := x.as("token-of-alice-000000000000000000")
		a.header = cross
		if r := a.do("PUT", self, "{}"); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
}

func TestLoginThrottle(t *testing.T) {
	x := newSite(t)
	x.addUser("alice", core.RoleUser)
	x.addUser("bob", core.RoleUser)
	for i := range failPair {
		x.guest().refused("POST", "/api/user/login", login("alice", "wrong password"), 200, "username or password")
		if i == failPair/2 {
			x.logIn("alice") // a success neither counts nor clears
		}
	}
	r := x.guest().do("POST", "/api/user/login", login("alice", testPassword))
	if r.status != 429 || r.res.Header.Get("Retry-After") != "300" {
		t.Fatalf("%d %s, Retry-After %q", r.status, r.body, r.res.Header.Get("Retry-After"))
	}
	x.logIn("bob") // another account from here
	elsewhere := x.guest()
	elsewhere.ip = "198.51.100.3:1"
	elsewhere.data("POST", "/api/user/login", login("alice", testPassword)) // this account from elsewhere
	x.advance(failBlock)
	x.logIn("alice")

	t.Run("an unknown name looks the same", func(t *testing.T) {
		for range failPair {
			x.guest().refused("POST", "/api/user/login", login("nobody", "wrong password"), 200, "username or password")
		}
		x.guest().refused("POST", "/api/user/login", login("nobody", "wrong password"), 429, "failed log-ins")
	})
	t.Run("one account from everywhere", func(t *testing.T) {
		x.advance(time.Hour)
		home := x.guest()
		home.ip = "192.0.2.77:1"
		home.data("POST", "/api/user/login", login("bob", testPassword))
		for i := range failAccount {
			a := x.guest()
			a.ip = fmt.Sprintf("198.51.100.%d:1", i+1)
			a.do("POST", "/api/user/login", login("bob", "wrong password"))
		}
		fresh := x.guest()
		fresh.ip = "203.0.113.200:1"
		fresh.refused("POST", "/api/user/login", login("bob", testPassword), 429, "failed log-ins")
		again := x.guest()
		again.ip = home.ip // the owner is not locked out
		for range failPair {
			again.refused("POST", "/api/user/login", login("bob", "wrong password"), 200, "username or password")
		}
		again.refused("POST", "/api/user/login", login("bob", testPassword), 429, "failed log-ins")
		x.advance(failBlock)
		again.data("POST", "/api/user/login", login("bob", testPassword))
	})
	t.Run("original_password counts too", func(t *testing.T) {
		x.advance(time.Hour)
		a := x.logIn("alice")
		for range failPair {
			a.do("PUT", self, `{"password":"a new password","original_password":"wrong password"}`)
		}
		a.refused("PUT", self, `{"password":"a new password","original_password":"`+testPassword+`"}`, 429, "failed log-ins")
	})
}

// A burst gets through no more often than the limit and what is hashed at once.
func TestLoginBurst(t *testing.T) {
	x := newSite(t)
	x.addUser("alice", core.RoleUser)
	var mu sync.Mutex
	by := map[int]int{}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			r := x.guest().do("POST", "/api/user/login", login("alice", "wrong password"))
			mu.Lock()
			defer mu.Unlock()
			by[r.status]++
		})
	}
	wg.Wait()
	if by[200] < failPair || by[200] > failPair+hashersAtOnce || by[200]+by[429] != 40 {
		t.Errorf("answers %v", by)
	}
}

func TestBlockedIsBounded(t *testing.T) {
	x := newSite(t)
	for i := range maxBlocked + 500 {
		x.srv.login.block(fmt.Sprint(i))
	}
	if n := len(x.srv.login.until); n > maxBlocked {
		t.Errorf("%d entries", n)
	}
}

func TestPasswordForms(t *testing.T) {
	bc, err := bcrypt.GenerateFromPassword([]byte(testPassword), bcrypt.MinCost)
	must(t, err)
	fresh, err := HashPassword(t.Context(), testPassword)
	must(t, err)
	other := "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$"
	for _, c := range []struct {
		name             string
		stored, password core.Secret
		ok, stale        bool
	}{
		{"argon2id", fresh, testPassword, true, false},
		{"argon2id, wrong", fresh, "wrong", false, false},
		{"argon2id, cheap", testHash(), testPassword, true, true},
		{"bcrypt", core.Secret(bc), testPassword, true, true},
		{"bcrypt, wrong", core.Secret(bc), "wrong", false, true},
		{"bcrypt, long", core.Secret(bc), core.Secret(strings.Repeat("x", 100)), false, true},
		{"none", "", testPassword, false, false},
		{"none, none", "", "", false, false},
		{"plain text", testPassword, testPassword, false, false},
		{"broken argon2id", core.Secret(other), testPassword, false, false},
		{"argon2id of no rounds", "$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZXNhbHRzb21lc2FsdHNvbWVzYWx0c29tZXNhbHQ", testPassword, false, false},
		{"argon2id that wants 4 GB", "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZXNhbHRzb21lc2FsdHNvbWVzYWx0c29tZXNhbHQ", testPassword, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ok, stale := verifyPassword(c.stored, c.password)
			if ok != c.ok || ok && stale != c.stale {
				t.Errorf("ok %v, stale %v", ok, stale)
			}
		})
	}
	for password, good := range map[core.Secret]bool{"1234567": false, "12345678": true, "пароль12": true, core.Secret(strings.Repeat("x", 128)): true, core.Secret(strings.Repeat("x", 129)): false} {
		if err := CheckPassword(password); (err == nil) != good {
			t.Errorf("%d bytes: %v", len(password), err)
		}
	}
	if ok, _ := verifyPassword(noHash, ""); ok {
		t.Error("the hash for nobody opens with an empty password")
	}
}

func TestBcryptIsRehashed(t *testing.T) {
	x := newSite(t)
	u := x.addUser("alice", core.RoleUser)
	bc, err := bcrypt.GenerateFromPassword([]byte(testPassword), bcrypt.MinCost)
	must(t, err)
	change(x, u.ID, func(u *core.User) { u.PasswordHash = core.Secret(bc) })
	a := x.logIn("alice")
	now, err := x.store.User(t.Context(), u.ID)
	must(t, err)
	if !strings.HasPrefix(now.PasswordHash.Reveal(), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Error("the hash was not renewed")
	}
	a.data("GET", self, "")
	x.logIn("alice")
}

func TestRegister(t *testing.T) {
	x := newSite(t)
	x.update(func(ctx context.Context, tx *store.Tx) error { return tx.PutOption(ctx, "QuotaForNewUser", "777") })
	a := x.guest()
	if r := a.do("POST", "/api/user/register", `{"username":"carol","password":"`+testPassword+`","email":"victim@example.com","role":100,"quota":5,"aff_code":"x"}`); !r.success() {
		t.Fatal(r.body)
	}
	u := x.logIn("carol").data("GET", self, "")
	if u.Get("role").Int() != 1 || u.Get("quota").Int() != 777 || u.Get("email").String() != "" || u.Get("group").String() != "default" {
		t.Errorf("%s", u)
	}
	a.refused("POST", "/api/user/register", login("carol", testPassword), 200, "username")
	for _, option := range []string{"RegisterEnabled", "PasswordRegisterEnabled"} {
		x.update(func(ctx context.Context, tx *store.Tx) error { return tx.PutOption(ctx, option, "false") })
		a.refused("POST", "/api/user/register", login("dave", testPassword), 200, "switched registration off")
		x.update(func(ctx context.Context, tx *store.Tx) error { return tx.PutOption(ctx, option, "true") })
	}
}
