package storetest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func testUsers(t *testing.T, e *env) {
	ctx := t.Context()
	root, err := e.s.HasRoot(ctx)
	must(t, err)
	equal(t, "root before", root, false)
	u := &core.User{Username: "root", PasswordHash: "$argon2id$x", DisplayName: "Rööt 🚀", Role: core.RoleRoot, Status: core.UserEnabled, Email: "r@example.com",
		Group: "vip", Quota: 1000, Setting: `{"webhook_secret":"shh"}`, Remark: "it's \\ a \"remark\"", CreatedAt: e.now}
	e.update(t, func(tx *store.Tx) error { return tx.CreateUser(ctx, u) })
	if u.ID == 0 {
		t.Fatal("no id")
	}
	got, err := e.s.User(ctx, u.ID)
	must(t, err)
	want := *u
	want.Rev = got.Rev
	equal(t, "user", *got, want)
	if got.Rev == 0 {
		t.Fatal("the row has no revision")
	}
	root, err = e.s.HasRoot(ctx)
	must(t, err)
	equal(t, "root after", root, true)

	e.refused(t, core.CodeConflict, func(tx *store.Tx) error {
		return tx.CreateUser(ctx, &core.User{Username: "root", Role: core.RoleUser, Status: core.UserEnabled, Group: "default"})
	})
	want.PasswordHash, want.DisplayName, want.Email, want.Setting, want.Quota = "", "Second", "", `{"a":1}`, 5 // quota is the ledger's
	want.Status, want.Role, want.Group, want.Remark, want.SessionEpoch = core.UserDisabled, core.RoleAdmin, "default", "", 4
	rev := e.update(t, func(tx *store.Tx) error { return tx.SaveUser(ctx, &want) })
	got, err = e.s.User(ctx, u.ID)
	must(t, err)
	want.PasswordHash, want.Quota, want.Rev = "$argon2id$x", 1000, rev
	equal(t, "saved user", *got, want)
	same := e.update(t, func(tx *store.Tx) error { return tx.SaveUser(ctx, got) })
	equal(t, "revision after saving what is there", same, rev)

	byName, err := e.s.UserByLogin(ctx, "root")
	must(t, err)
	equal(t, "user by name", byName.ID, u.ID)
	equal(t, "hash of user by name", byName.PasswordHash, "$argon2id$x")
	at := e.now.Add(time.Hour)
	must(t, e.s.TouchUserLogin(ctx, u.ID, at))
	got, err = e.s.User(ctx, u.ID)
	must(t, err)
	equal(t, "last login", got.LastLoginAt, at)

	for what, fn := range map[string]func(*store.Tx) error{
		"save": func(tx *store.Tx) error {
			return tx.SaveUser(ctx, &core.User{ID: 99, Username: "x", Role: 1, Status: 1, Group: "g"})
		},
		"delete": func(tx *store.Tx) error { return tx.DeleteUser(ctx, 99) },
		"add":    func(tx *store.Tx) error { return tx.AddQuota(ctx, 99, 1) },
		"read":   func(tx *store.Tx) error { _, err := tx.UserForUpdate(ctx, 99); return err },
		"revoke": func(tx *store.Tx) error { return tx.RevokeSessions(ctx, 99) },
		"access": func(tx *store.Tx) error { return tx.SetUserAccessToken(ctx, 99, nil) },
	} {
		if _, err := e.s.Update(ctx, actor, fn); !core.IsCode(err, core.CodeNotFound) {
			t.Errorf("%s of a missing user: %v", what, err)
		}
	}
	if _, err := e.s.User(ctx, 99); !core.IsCode(err, core.CodeNotFound) {
		t.Errorf("missing user: %v", err)
	}
	for field, bad := range map[string]core.User{
		"username": {Username: strings.Repeat("x", 192), Role: 1, Status: 1, Group: "g"},
		"role":     {Username: "x", Role: 5, Status: 1, Group: "g"},
		"status":   {Username: "x", Role: 1, Status: 9, Group: "g"},
		"group":    {Username: "x", Role: 1, Status: 1},
		"remark":   {Username: "x", Role: 1, Status: 1, Group: "g", Remark: strings.Repeat("x", 256)},
		"quota":    {Username: "x", Role: 1, Status: 1, Group: "g", Quota: core.MaxQuota + 1},
	} {
		_, err := e.s.Update(ctx, actor, func(tx *store.Tx) error { return tx.CreateUser(ctx, &bad) })
		wantCode(t, err, core.CodeInvalidRequest)
		equal(t, "field that is wrong", core.AsError(err).Param, field)
	}

	tok, key := e.token(t, u.ID, 1)
	must(t, e.s.CreateSession(ctx, &core.Session{ID: "s", UserID: u.ID, Epoch: 9, ExpiresAt: e.now.Add(time.Hour)}))
	before := rev
	rev = e.update(t, func(tx *store.Tx) error { return tx.DeleteUser(ctx, u.ID) })
	r, err := e.s.FetchSince(ctx, before)
	must(t, err)
	last := r.Changes[len(r.Changes)-2:]
	equal(t, "deleted token", last[0], core.Change{Rev: rev - 1, Kind: core.KindToken, ID: id(tok.ID), Op: core.OpDelete})
	equal(t, "deleted user", last[1], core.Change{Rev: rev, Kind: core.KindUser, ID: id(u.ID), Op: core.OpDelete})
	_, _, err = e.s.CredentialByHash(ctx, e.opts.Keys.KeyHashes(key.Reveal()))
	wantCode(t, err, core.CodeNotFound)
	_, _, err = e.s.Session(ctx, "s")
	wantCode(t, err, core.CodeUnauthorized)
	next := e.user(t, "next", 0)
	if next.ID == u.ID {
		t.Fatal("an id was given twice")
	}
	n, err := e.s.CountUsers(ctx)
	must(t, err)
	equal(t, "users", n, 1)
}

// testIdentities: names are compared byte by byte, and none has blanks at its
// ends, which MySQL would not see.
func testIdentities(t *testing.T, e *env) {
	ctx := t.Context()
	e.user(t, "bob", 1)
	e.user(t, "Bob", 2)
	e.user(t, "bób", 3)
	for name, quota := range map[string]int64{"bob": 1, "Bob": 2, "bób": 3} {
		u, err := e.s.UserByLogin(ctx, name)
		must(t, err)
		equal(t, "user "+name, u.Quota, quota)
	}
	for _, name := range []string{"BOB", "bob ", "", "bo"} {
		if _, err := e.s.UserByLogin(ctx, name); !core.IsCode(err, core.CodeNotFound) {
			t.Errorf("login %q: %v", name, err)
		}
	}
	for _, name := range []string{"bob ", " bob", "", "b\x00ob", "b\nob", "b\xffob"} {
		e.refused(t, core.CodeInvalidRequest, func(tx *store.Tx) error {
			return tx.CreateUser(ctx, &core.User{Username: name, Role: core.RoleUser, Status: core.UserEnabled, Group: "default"})
		})
	}
	e.update(t, func(tx *store.Tx) error {
		return errors.Join(
			tx.PutGroup(ctx, &core.Group{Name: "vip"}), tx.PutGroup(ctx, &core.Group{Name: "VIP"}),
			tx.PutPrice(ctx, &core.Price{Model: "gpt-4"}), tx.PutPrice(ctx, &core.Price{Model: "GPT-4"}),
			tx.PutOption(ctx, "x.Name", "1"), tx.PutOption(ctx, "x.name", "2"))
	})
	r, err := e.s.FetchAll(ctx)
	must(t, err)
	equal(t, "groups", len(r.Rows.Groups), 2)
	equal(t, "prices", len(r.Rows.Prices), 2)
	equal(t, "x.Name", r.Rows.Options["x.Name"], "1")
	equal(t, "x.name", r.Rows.Options["x.name"], "2")
	e.update(t, func(tx *store.Tx) error { return tx.DeleteGroup(ctx, "vip") })
	e.refused(t, core.CodeNotFound, func(tx *store.Tx) error { return tx.DeletePrice(ctx, "Gpt-4") })

	u, err := e.s.UserByLogin(ctx, "bob")
	must(t, err)
	key := strings.Repeat("a", 47)
	for _, last := range []string{"b", "B"} {
		e.update(t, func(tx *store.Tx) error {
			return tx.CreateToken(ctx, &core.Token{UserID: u.ID, Name: last, Status: core.TokenEnabled}, core.Secret(key+last))
		})
	}
	for _, last := range []string{"b", "B"} {
		c, _, err := e.s.CredentialByHash(ctx, e.opts.Keys.KeyHashes(key+last))
		must(t, err)
		equal(t, "token", c.Token.Name, last)
	}
	two := &core.User{Username: "two", Email: "same@example.com", Role: core.RoleUser, Status: core.UserEnabled, Group: "default"}
	e.update(t, func(tx *store.Tx) error { return tx.CreateUser(ctx, two) })
	byMail, err := e.s.UserByLogin(ctx, "same@example.com")
	must(t, err)
	equal(t, "user by mail", byMail.ID, two.ID)
	two.Username = "three"
	e.update(t, func(tx *store.Tx) error { return tx.CreateUser(ctx, two) })
	_, err = e.s.UserByLogin(ctx, "same@example.com")
	wantCode(t, err, core.CodeNotFound)
}

func testBalances(t *testing.T, e *env) {
	ctx := t.Context()
	u := e.user(t, "bob", 10)
	add := func(n int64) error {
		_, err := e.s.Update(ctx, actor, func(tx *store.Tx) error { return tx.AddQuota(ctx, u.ID, n) })
		return err
	}
	must(t, add(1<<40))
	equal(t, "balance", e.number(t, "SELECT quota FROM sluice_users"), 10+1<<40)
	must(t, add(-(1 << 40)))
	wantCode(t, add(-11), core.CodeInvalidRequest)
	equal(t, "balance after refusal", e.number(t, "SELECT quota FROM sluice_users"), 10)
	must(t, add(-10))
	wantCode(t, add(core.MaxQuota+1), core.CodeInvalidRequest)
	must(t, add(core.MaxQuota))
	wantCode(t, add(1), core.CodeInvalidRequest)
	e.exec(t, "UPDATE sluice_users SET quota = -5")
	must(t, add(-1)) // it is below zero already
	equal(t, "balance", e.number(t, "SELECT quota FROM sluice_users"), -6)
	e.update(t, func(tx *store.Tx) error {
		old, err := tx.SetQuota(ctx, u.ID, 77)
		equal(t, "old balance", old, -6)
		return err
	})
	equal(t, "balance", e.number(t, "SELECT quota FROM sluice_users"), 77)
	e.refused(t, core.CodeInvalidRequest, func(tx *store.Tx) error { _, err := tx.SetQuota(ctx, u.ID, core.MaxQuota+1); return err })

	tok, _ := e.token(t, u.ID, 5)
	e.update(t, func(tx *store.Tx) error { return tx.SetTokenQuota(ctx, tok.ID, 1<<50) })
	remain, used, err := e.s.TokenBalance(ctx, tok.ID)
	must(t, err)
	equal(t, "remain", remain, 1<<50)
	equal(t, "used", used, 0)
	e.refused(t, core.CodeNotFound, func(tx *store.Tx) error { return tx.SetTokenQuota(ctx, 99, 1) })
}

func testAccessTokens(t *testing.T, e *env) {
	ctx := t.Context()
	bob, eve := e.user(t, "bob", 0), e.user(t, "eve", 0)
	const secret core.Secret = "access-token-of-bob"
	set := func(id int64, s core.Secret) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.SetUserAccessToken(ctx, id, e.opts.Keys.AccessTokenHash(s)) }
	}
	e.update(t, set(bob.ID, secret))
	u, err := e.s.UserByAccessToken(ctx, secret)
	must(t, err)
	equal(t, "owner", u.ID, bob.ID)
	for _, s := range []core.Secret{"", "access-token-of-boB", secret + " "} {
		_, err := e.s.UserByAccessToken(ctx, s)
		wantCode(t, err, core.CodeNotFound)
	}
	e.refused(t, core.CodeConflict, set(eve.ID, secret))
	e.update(t, func(tx *store.Tx) error { return tx.SetUserAccessToken(ctx, bob.ID, nil) })
	e.update(t, func(tx *store.Tx) error { return tx.SetUserAccessToken(ctx, eve.ID, nil) }) // two without one
	_, err = e.s.UserByAccessToken(ctx, secret)
	wantCode(t, err, core.CodeNotFound)
	if string(e.opts.Keys.AccessTokenHash(secret)) == string(e.opts.Keys.KeyHashes(secret.Reveal())[0]) {
		t.Fatal("API keys and access tokens share a hash")
	}
}

func testSessions(t *testing.T, e *env) {
	ctx := t.Context()
	u := e.user(t, "bob", 5)
	x := &core.Session{ID: "0123456789abcdef", UserID: u.ID, CreatedAt: e.now, ExpiresAt: e.now.Add(time.Hour), LastSeenAt: e.now, IP: "192.0.2.9", UserAgent: strings.Repeat("ü", 400)}
	must(t, e.s.CreateSession(ctx, x))
	for _, from := range []struct {
		user int64
		ip   string
		want bool
	}{{u.ID, x.IP, true}, {u.ID, "192.0.2.8", false}, {u.ID, "", false}, {u.ID + 1, x.IP, false}} {
		if has, err := e.s.HasSessionFrom(ctx, from.user, from.ip); err != nil || has != from.want {
			t.Errorf("session of user %d from %q: %t, %v", from.user, from.ip, has, err)
		}
	}
	got, user, err := e.s.Session(ctx, x.ID)
	must(t, err)
	want := *x
	want.UserAgent = strings.Repeat("ü", 255)
	equal(t, "session", *got, want)
	equal(t, "user", user.Username, "bob")
	equal(t, "hash that reached the session", user.PasswordHash, "")
	wantCode(t, e.s.CreateSession(ctx, x), core.CodeConflict)
	must(t, e.s.TouchSession(ctx, x.ID, e.now.Add(time.Minute)))
	got, _, err = e.s.Session(ctx, x.ID)
	must(t, err)
	equal(t, "last seen", got.LastSeenAt, e.now.Add(time.Minute))

	dead := func(id string) {
		t.Helper()
		_, _, err := e.s.Session(ctx, id)
		wantCode(t, err, core.CodeUnauthorized)
	}
	dead("0123456789abcdeF")
	dead("")
	start := e.now
	e.now = start.Add(time.Hour)
	dead(x.ID)
	must(t, e.s.CreateSession(ctx, &core.Session{ID: "second", UserID: u.ID, CreatedAt: e.now, ExpiresAt: e.now.Add(time.Hour)}))
	equal(t, "rows after the expired one was cleaned", e.number(t, "SELECT COUNT(*) FROM sluice_sessions"), 1)
	for i, id := range []string{"a", "b", "c", "d"} {
		must(t, e.s.CreateSession(ctx, &core.Session{ID: id, UserID: u.ID, CreatedAt: e.now.Add(time.Duration(i+1) * time.Second), ExpiresAt: e.now.Add(time.Hour)}))
	}
	must(t, e.s.TrimSessions(ctx, u.ID, 2))
	dead("second")
	dead("b")
	_, _, err = e.s.Session(ctx, "c")
	must(t, err)
	must(t, e.s.TrimSessions(ctx, u.ID, 2))
	must(t, e.s.DeleteSession(ctx, "c"))
	must(t, e.s.DeleteSession(ctx, "c"))
	dead("c")

	rev := e.update(t, func(tx *store.Tx) error { return tx.RevokeSessions(ctx, u.ID) })
	if has, err := e.s.HasSessionFrom(ctx, u.ID, x.IP); err != nil || has {
		t.Errorf("session after all were revoked: %t, %v", has, err)
	}
	dead("d")
	r, err := e.s.FetchSince(ctx, rev-2)
	must(t, err)
	equal(t, "first change", r.Changes[0].Kind, core.KindUser)
	equal(t, "second change", r.Changes[1].Kind, core.KindSession)
	// One that was made from what was read before the revocation is dead as well.
	must(t, e.s.CreateSession(ctx, &core.Session{ID: "late", UserID: u.ID, Epoch: 0, ExpiresAt: e.now.Add(time.Hour)}))
	dead("late")
	must(t, e.s.CreateSession(ctx, &core.Session{ID: "new", UserID: u.ID, Epoch: 1, ExpiresAt: e.now.Add(time.Hour)}))
	_, _, err = e.s.Session(ctx, "new")
	must(t, err)
}

func testTokens(t *testing.T, e *env) {
	ctx := t.Context()
	bob, eve := e.user(t, "bob", 5), e.user(t, "eve", 5)
	key := store.NewTokenKey()
	equal(t, "length of key", len(key), core.TokenKeyLength)
	tok := &core.Token{UserID: bob.ID, Name: "my token", Status: core.TokenEnabled, CreatedAt: e.now, ExpiresAt: e.now.Add(time.Hour), RemainQuota: 1 << 40,
		LimitModels: true, Models: []string{"gpt-4", "claude"}, AllowIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")},
		Group: core.GroupAuto, CrossGroupRetry: true}
	e.update(t, func(tx *store.Tx) error { return tx.CreateToken(ctx, tok, "sk-"+key) })
	got, err := e.s.Token(ctx, bob.ID, tok.ID)
	must(t, err)
	k := key.Reveal()
	equal(t, "preview", got.KeyPreview, k[:4]+"**********"+k[44:])
	equal(t, "name", got.Name, tok.Name)
	equal(t, "expiry", got.ExpiresAt, tok.ExpiresAt)
	equal(t, "created", got.CreatedAt, tok.CreatedAt)
	equal(t, "models", strings.Join(got.Models, ","), "gpt-4,claude")
	equal(t, "addresses", core.FormatAllowIPs(got.AllowIPs), "10.0.0.0/8\n192.0.2.1")
	equal(t, "remain", got.RemainQuota, 1<<40)
	equal(t, "group", got.Group, core.GroupAuto)
	equal(t, "flags", got.LimitModels && got.CrossGroupRetry && !got.UnlimitedQuota, true)
	shown, err := e.s.RevealTokenKey(ctx, bob.ID, tok.ID)
	must(t, err)
	equal(t, "revealed key", shown.Reveal(), k)

	for what, err := range map[string]error{
		"read by another":   second(e.s.Token(ctx, eve.ID, tok.ID)),
		"reveal by another": second(e.s.RevealTokenKey(ctx, eve.ID, tok.ID)),
		"save by another":   e.tryUpdate(ctx, func(tx *store.Tx) error { x := *tok; x.UserID = eve.ID; return tx.SaveToken(ctx, &x) }),
		"delete by another": e.tryUpdate(ctx, func(tx *store.Tx) error { return tx.DeleteToken(ctx, eve.ID, tok.ID) }),
		"of nobody": e.tryUpdate(ctx, func(tx *store.Tx) error {
			return tx.CreateToken(ctx, &core.Token{UserID: 99, Status: 1}, store.NewTokenKey())
		}),
	} {
		if !core.IsCode(err, core.CodeNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	e.refused(t, core.CodeConflict, func(tx *store.Tx) error { return tx.CreateToken(ctx, &core.Token{UserID: eve.ID, Status: 1}, key) })
	for _, bad := range []core.Secret{"", "short", "with a blank in it", core.Secret(strings.Repeat("x", 200))} {
		e.refused(t, core.CodeInvalidRequest, func(tx *store.Tx) error { return tx.CreateToken(ctx, &core.Token{UserID: bob.ID, Status: 1}, bad) })
	}
	e.refused(t, core.CodeInvalidRequest, func(tx *store.Tx) error {
		return tx.CreateToken(ctx, &core.Token{UserID: bob.ID, Status: 1, Models: []string{"a,b"}}, store.NewTokenKey())
	})

	got.Name, got.Status, got.UnlimitedQuota, got.RemainQuota = "renamed", core.TokenDisabled, true, 3 // the balance is the ledger's
	got.Models, got.LimitModels, got.AllowIPs, got.Group, got.ExpiresAt = nil, false, nil, "", time.Time{}
	rev := e.update(t, func(tx *store.Tx) error { return tx.SaveToken(ctx, got) })
	again, err := e.s.Token(ctx, 0, tok.ID)
	must(t, err)
	equal(t, "name", again.Name, "renamed")
	equal(t, "revision", again.Rev, rev)
	equal(t, "remain", again.RemainQuota, 1<<40)
	equal(t, "models", len(again.Models), 0)
	equal(t, "expiry", again.ExpiresAt.IsZero(), true)
	e.update(t, func(tx *store.Tx) error {
		n, err := tx.CountTokens(ctx, bob.ID)
		equal(t, "tokens", n, 1)
		return err
	})
	e.update(t, func(tx *store.Tx) error { return tx.DeleteToken(ctx, bob.ID, tok.ID) })
	n, err := e.s.CountTokens(ctx, bob.ID)
	must(t, err)
	equal(t, "tokens", n, 0)
}

func second[T any](_ T, err error) error { return err }

func (e *env) tryUpdate(ctx context.Context, fn func(tx *store.Tx) error) error {
	return second(e.s.Update(ctx, actor, fn))
}

func testCredentials(t *testing.T, e *env) {
	ctx := t.Context()
	u := e.user(t, "bob", 1<<40)
	tok, key := e.token(t, u.ID, 77)
	rev := e.update(t, func(tx *store.Tx) error {
		x, err := tx.UserForUpdate(ctx, u.ID)
		must(t, err)
		x.PasswordHash, x.Setting = "hash-of-bob", `{"record_ip_log":true}`
		return tx.SaveUser(ctx, x)
	})
	c, at, err := e.s.CredentialByHash(ctx, e.opts.Keys.KeyHashes("sk-"+key.Reveal()))
	must(t, err)
	equal(t, "revision", at, rev)
	equal(t, "token", c.Token.ID, tok.ID)
	equal(t, "balance of token", c.Token.RemainQuota, 77)
	equal(t, "user", c.User.Username, "bob")
	equal(t, "balance of user", c.User.Quota, 1<<40)
	equal(t, "setting", c.User.Setting, `{"record_ip_log":true}`)
	equal(t, "password hash", c.User.PasswordHash, "")
	equal(t, "prepared", c.Token.AllowsModel("any"), true)
	c, at, err = e.s.CredentialByHash(ctx, e.opts.Keys.KeyHashes(store.NewTokenKey().Reveal()))
	wantCode(t, err, core.CodeNotFound)
	equal(t, "revision of the unknown", at, rev)
	if c.Token != nil || c.User != nil {
		t.Fatal("an unknown key has a credential")
	}
	_, _, err = e.s.CredentialByHash(ctx, nil)
	wantCode(t, err, core.CodeNotFound)
}
