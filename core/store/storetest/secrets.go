package storetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

const newSecret core.Secret = "a second crypto secret 0123456789"

func (e *env) with(t *testing.T, k *store.Keyring) *store.Store {
	t.Helper()
	o := e.opts
	o.Keys = k
	return e.open(t, o)
}

func testWrongSecret(t *testing.T, e *env) {
	ctx := t.Context()
	must(t, e.s.CheckCanary(ctx))
	must(t, e.s.CheckCanary(ctx))
	wrong := e.with(t, Keys(t, newSecret))
	for range 2 {
		err := wrong.CheckCanary(ctx)
		wantCode(t, err, core.CodeConflict)
		if m := core.AsError(err).Message; !strings.Contains(m, "CRYPTO_SECRET_OLD") || strings.Contains(m, newSecret.Reveal()) {
			t.Fatalf("message %q", m)
		}
	}
	equal(t, "canaries", e.number(t, "SELECT COUNT(*) FROM sluice_canary"), 1)
	must(t, e.s.CheckCanary(ctx))
	if _, err := store.NewKeyring("short", nil); err == nil {
		t.Fatal("a short secret was taken")
	}
	if _, err := store.NewKeyring(Secret, []core.Secret{""}); err == nil {
		t.Fatal("an empty old secret was taken")
	}
}

func testRotation(t *testing.T, e *env) {
	ctx := t.Context()
	must(t, e.s.CheckCanary(ctx))
	u := e.user(t, "bob", 5)
	tok, key := e.token(t, u.ID, 5)
	ch := e.channel(t, core.Channel{Key: "old-key", Setting: `{"proxy":"http://h:1"}`})
	e.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.SetUserAccessToken(ctx, u.ID, e.opts.Keys.AccessTokenHash("pat")), tx.PutOption(ctx, "SMTPToken", "old-option"))
	})
	rotated := e.with(t, Keys(t, newSecret, Secret))
	must(t, rotated.CheckCanary(ctx))
	hashes := Keys(t, newSecret, Secret).KeyHashes(key.Reveal())
	equal(t, "hashes", len(hashes), 2)
	c, _, err := rotated.CredentialByHash(ctx, hashes)
	must(t, err)
	equal(t, "token", c.Token.ID, tok.ID)
	shown, err := rotated.RevealTokenKey(ctx, u.ID, tok.ID)
	must(t, err)
	equal(t, "revealed", shown, key)
	by, err := rotated.UserByAccessToken(ctx, "pat")
	must(t, err)
	equal(t, "owner", by.ID, u.ID)
	r, err := rotated.FetchAll(ctx)
	must(t, err)
	equal(t, "bad rows", len(r.Bad), 0)
	equal(t, "key", r.Rows.Channels[ch.ID].Key.Reveal(), "old-key")
	equal(t, "option", r.Rows.Options["SMTPToken"], "old-option")
	// The same key under the new secret is still the same key.
	_, err = rotated.Update(ctx, actor, func(tx *store.Tx) error { return tx.CreateToken(ctx, &core.Token{UserID: u.ID, Status: 1}, key) })
	wantCode(t, err, core.CodeConflict)

	// Both secrets are in use now, so either alone is refused.
	for _, secret := range []core.Secret{Secret, newSecret} {
		wantCode(t, e.with(t, Keys(t, secret)).CheckCanary(ctx), core.CodeConflict)
	}
	must(t, e.with(t, Keys(t, Secret, newSecret)).CheckCanary(ctx))
	// A row that is saved is sealed under the new secret.
	_, err = rotated.Update(ctx, actor, func(tx *store.Tx) error {
		x, err := tx.ChannelForUpdate(ctx, ch.ID)
		must(t, err)
		return tx.SaveChannel(ctx, x)
	})
	must(t, err)
	after, err := e.with(t, Keys(t, newSecret)).Channel(ctx, ch.ID)
	must(t, err)
	equal(t, "key under the new secret alone", after.Key.Reveal(), "old-key")
	_, err = e.s.Channel(ctx, ch.ID)
	if !errors.Is(err, store.ErrUnknownKey) {
		t.Fatalf("error %v, want ErrUnknownKey", err)
	}
}

// testMovedSecret: a sealed text opens only where it was sealed.
func testMovedSecret(t *testing.T, e *env) {
	ctx := t.Context()
	a, b := e.channel(t, core.Channel{Key: "key-a", Setting: `{"proxy":"http://h:1"}`}), e.channel(t, core.Channel{Key: "key-b"})
	u := e.user(t, "bob", 5)
	tok, _ := e.token(t, u.ID, 1)
	sealed := func(q string) string { return e.rows(t, q)[0][0] }
	moved := sealed("SELECT HEX(key_sealed) FROM sluice_channels WHERE id = " + id(a.ID))
	e.exec(t, "UPDATE sluice_channels SET key_sealed = X'"+moved+"' WHERE id = "+id(b.ID))
	_, err := e.s.Channel(ctx, b.ID)
	if !errors.Is(err, store.ErrSealed) {
		t.Fatalf("another row's: %v", err)
	}
	e.exec(t, "UPDATE sluice_channels SET setting_sealed = X'"+moved+"' WHERE id = "+id(a.ID))
	if _, err := e.s.Channel(ctx, a.ID); !errors.Is(err, store.ErrSealed) {
		t.Fatalf("another column's: %v", err)
	}
	e.exec(t, "UPDATE sluice_tokens SET key_sealed = X'"+moved+"'")
	if _, err := e.s.RevealTokenKey(ctx, u.ID, tok.ID); !errors.Is(err, store.ErrSealed) {
		t.Fatalf("another table's: %v", err)
	}
	for _, cut := range []string{moved[:len(moved)-2], moved[:40], "02" + moved[2:], moved[:len(moved)-2] + "00"} {
		e.exec(t, "UPDATE sluice_channels SET key_sealed = X'"+cut+"' WHERE id = "+id(a.ID))
		if _, err := e.s.Channel(ctx, a.ID); !errors.Is(err, store.ErrSealed) {
			t.Fatalf("%s: %v", cut, err)
		}
	}
	// A damaged secret can be replaced.
	e.update(t, func(tx *store.Tx) error {
		return tx.SaveChannel(ctx, &core.Channel{ID: a.ID, Name: "a", Status: core.ChannelEnabled, Key: "fresh"})
	})
	got, err := e.s.Channel(ctx, a.ID)
	must(t, err)
	equal(t, "key", got.Key.Reveal(), "fresh")
}

func testNoSecretInClear(t *testing.T, e *env) {
	ctx := t.Context()
	const planted = "PlantedSecret"
	must(t, e.s.CheckCanary(ctx))
	u := e.user(t, "bob", 5)
	key := core.Secret(planted + "TokenKey" + strings.Repeat("x", 27))
	e.update(t, func(tx *store.Tx) error {
		x := *u
		x.Setting = `{"webhook_secret":"` + planted + `"}`
		return errors.Join(
			tx.CreateToken(ctx, &core.Token{UserID: u.ID, Status: core.TokenEnabled}, key),
			tx.CreateChannel(ctx, &core.Channel{Name: "c", Status: core.ChannelEnabled, Key: planted, Setting: `{"proxy":"http://u:` + planted + `@h:1"}`,
				HeaderOverride: `{"Authorization":"` + planted + `"}`, ParamOverride: `{"key":"` + planted + `"}`, Settings: `{"k":"` + planted + `"}`}),
			tx.PutOption(ctx, "SMTPToken", planted), tx.PutOption(ctx, "x.api_key", planted),
			tx.SetUserAccessToken(ctx, u.ID, e.opts.Keys.AccessTokenHash(planted)),
			tx.SaveUser(ctx, &x))
	})
	must(t, e.s.CreateSession(ctx, &core.Session{ID: planted, UserID: u.ID, CreatedAt: e.now, ExpiresAt: e.now.Add(time.Hour)}))
	seen := 0
	for _, table := range e.tables(t) {
		dump := e.dump(t, table)
		seen += len(dump)
		for _, s := range []string{planted, Secret.Reveal()} {
			if strings.Contains(dump, s) {
				t.Errorf("a secret stands in %s", table)
			}
		}
	}
	if seen == 0 {
		t.Fatal("nothing was looked at")
	}
	if e.mysql() {
		return
	}
	files, err := filepath.Glob(e.opts.SQLitePath + "*")
	must(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		if strings.Contains(string(b), planted) {
			t.Errorf("a secret stands in %s", filepath.Base(f))
		}
		info, err := os.Stat(f)
		must(t, err)
		equal(t, "mode of "+filepath.Base(f), info.Mode().Perm(), 0o600)
	}
	if len(files) < 2 {
		t.Fatalf("files %v: no write-ahead log?", files)
	}
}

// testAway: a database that cannot be asked is told apart from a wrong question.
func testAway(t *testing.T, e *env) {
	o := e.opts
	var failed []string
	o.OnError = func(op string, _ error) { failed = append(failed, op) }
	s := e.open(t, o)
	ctx, cancel := contextWithPastDeadline(t)
	defer cancel()
	check := func(err error) {
		t.Helper()
		wantCode(t, err, core.CodeStoreUnavailable)
		if core.AsError(err).RetryAfter < time.Second {
			t.Fatal("no time to retry after")
		}
	}
	_, err := s.Update(ctx, actor, func(tx *store.Tx) error { return tx.PutOption(ctx, "About", "x") })
	check(err)
	_, err = s.FetchAll(ctx)
	check(err)
	_, err = s.Reserve(ctx, store.Lease{ID: "x", UserID: 1, Granted: 1}, 1, false)
	check(err)
	check(s.InsertLogs(ctx, []core.UsageLog{{}}))
	if len(failed) != 4 {
		t.Fatalf("errors told: %v", failed)
	}
	stopped, stop := contextCanceled(t)
	defer stop()
	if _, err := s.User(stopped, 1); err == nil || core.IsCode(err, core.CodeStoreUnavailable) {
		t.Fatalf("the caller went away: %v", err)
	}
	must(t, s.Ping(t.Context()))
	must(t, s.Close())
	_, err = s.User(t.Context(), 1)
	check(err)
	check(s.Ping(t.Context()))
}
