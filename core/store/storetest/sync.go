package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func testRevisions(t *testing.T, e *env) {
	ctx := t.Context()
	var told []core.Revision
	e.s.OnCommit(func(ctx context.Context, rev core.Revision) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the hook has no deadline")
		}
		told = append(told, rev)
	})
	rev := e.update(t, func(tx *store.Tx) error { return nil })
	equal(t, "revision without a change", rev, 0)
	equal(t, "hooks without a change", len(told), 0)
	var u core.User
	rev = e.update(t, func(tx *store.Tx) error {
		u = core.User{Username: "bob", Role: core.RoleUser, Status: core.UserEnabled, Group: "default"}
		return errors.Join(tx.CreateUser(ctx, &u), tx.PutOption(ctx, "About", "x"), tx.PutGroup(ctx, &core.Group{Name: "g"}))
	})
	equal(t, "revision of three changes", rev, 3)
	equal(t, "hook", told[0], 3)
	// Several changes of one entity are one; the last one counts.
	rev = e.update(t, func(tx *store.Tx) error {
		u.Remark = "x"
		return errors.Join(tx.SaveUser(ctx, &u), tx.AddQuota(ctx, u.ID, 5), tx.PutOption(ctx, "About", "y"), tx.DeleteOption(ctx, "About"))
	})
	equal(t, "revision", rev, 5)
	r, err := e.s.FetchSince(ctx, 3)
	must(t, err)
	equal(t, "changes", len(r.Changes), 2)
	equal(t, "first", r.Changes[0], core.Change{Rev: 4, Kind: core.KindUser, ID: id(u.ID), Op: core.OpPut})
	equal(t, "second", r.Changes[1], core.Change{Rev: 5, Kind: core.KindOption, ID: "About", Op: core.OpDelete})
	equal(t, "revision of row", e.number(t, "SELECT rev FROM sluice_users"), 4)
	equal(t, "revision of untouched row", e.number(t, "SELECT rev FROM sluice_groups"), 3)
	_, now, err := e.s.Revision(ctx)
	must(t, err)
	equal(t, "revision", now, 5)
	equal(t, "hooks", len(told), 2)
}

func testRolledBack(t *testing.T, e *env) {
	ctx := t.Context()
	told := false
	e.s.OnCommit(func(context.Context, core.Revision) { told = true })
	u := core.User{Username: "bob", Role: core.RoleUser, Status: core.UserEnabled, Group: "default"}
	boom := errors.New("boom")
	_, err := e.s.Update(ctx, actor, func(tx *store.Tx) error {
		must(t, tx.CreateUser(ctx, &u))
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("error %v", err)
	}
	if !e.backend.Isolated {
		return // go-mysql-server's memory tables cannot roll back
	}
	_, rev, err := e.s.Revision(ctx)
	must(t, err)
	equal(t, "revision", rev, 0)
	for _, table := range []string{"sluice_users", "sluice_sync_log", "sluice_audit_logs"} {
		equal(t, "rows of "+table, e.number(t, "SELECT COUNT(*) FROM "+table), 0)
	}
	equal(t, "hook", told, false)
	// The revision that was not given is given to the next.
	e.user(t, "bob", 1)
	_, rev, err = e.s.Revision(ctx)
	must(t, err)
	equal(t, "revision", rev, 1)
}

func testFetch(t *testing.T, e *env) {
	ctx := t.Context()
	empty, err := e.s.FetchAll(ctx)
	must(t, err)
	if empty.Rows.Channels == nil || empty.Rows.Groups == nil || empty.Rows.Prices == nil || empty.Rows.Options == nil {
		t.Fatal("a map is nil")
	}
	a := e.channel(t, core.Channel{Key: "key-a", Models: []string{"m"}, Groups: []string{"g"}})
	b := e.channel(t, core.Channel{Key: "key-b"})
	e.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.PutOption(ctx, "About", "x"), tx.PutOption(ctx, "Notice", "n"), tx.PutPrice(ctx, &core.Price{Model: "p"}), tx.PutGroup(ctx, &core.Group{Name: "g"}))
	})
	all, err := e.s.FetchAll(ctx)
	must(t, err)
	epoch, rev, err := e.s.Revision(ctx)
	must(t, err)
	equal(t, "epoch", all.Epoch, epoch)
	equal(t, "revision", all.Rev, rev)
	equal(t, "channels", len(all.Rows.Channels), 2)
	equal(t, "key", all.Rows.Channels[a.ID].Key.Reveal(), "key-a")
	equal(t, "prepared", all.Rows.Channels[a.ID].Serves("g", "m"), true)
	equal(t, "options", len(all.Rows.Options), 2)

	e.update(t, func(tx *store.Tx) error {
		x, err := tx.ChannelForUpdate(ctx, a.ID)
		must(t, err)
		x.Name = "renamed"
		return errors.Join(tx.SaveChannel(ctx, x), tx.DeleteChannel(ctx, b.ID), tx.DeleteOption(ctx, "About"))
	})
	r, err := e.s.FetchSince(ctx, rev)
	must(t, err)
	equal(t, "epoch", r.Epoch, epoch)
	equal(t, "revision", r.Rev, rev+3)
	equal(t, "changes", len(r.Changes), 3)
	for i, c := range r.Changes {
		equal(t, "revision of change", c.Rev, rev+core.Revision(i)+1)
	}
	equal(t, "channels", len(r.Rows.Channels), 1)
	equal(t, "name", r.Rows.Channels[a.ID].Name, "renamed")
	equal(t, "options", len(r.Rows.Options), 0)
	equal(t, "groups", len(r.Rows.Groups), 0)

	for _, since := range []core.Revision{r.Rev, r.Rev + 100} { // up to date; the database went back
		r, err = e.s.FetchSince(ctx, since)
		must(t, err)
		equal(t, "changes", len(r.Changes), 0)
		equal(t, "revision", r.Rev, rev+3)
		equal(t, "channels", len(r.Rows.Channels), 0)
		if r.Rows.Channels == nil || r.Rows.Options == nil {
			t.Fatal("a map is nil")
		}
	}
	e.exec(t, "DELETE FROM sluice_sync_log WHERE rev <= 2") // trimmed: the caller sees the gap
	r, err = e.s.FetchSince(ctx, 0)
	must(t, err)
	equal(t, "first change after a trim", r.Changes[0].Rev, 3)
}

// testBadRows: a row that cannot be used is reported and does not hide the
// others.
func testBadRows(t *testing.T, e *env) {
	ctx := t.Context()
	a := e.channel(t, core.Channel{Key: "key-a"})
	b := e.channel(t, core.Channel{Key: "key-b"})
	e.exec(t, "UPDATE sluice_channels SET model_mapping = '{' WHERE id = "+id(a.ID))
	r, err := e.s.FetchAll(ctx)
	must(t, err)
	equal(t, "good channels", len(r.Rows.Channels), 1)
	equal(t, "bad rows", len(r.Bad), 1)
	equal(t, "bad row", r.Bad[0].Kind == core.KindChannel && r.Bad[0].ID == id(a.ID) && r.Bad[0].Err != nil, true)
	equal(t, "good key", r.Rows.Channels[b.ID].Key.Reveal(), "key-b")
	e.exec(t, "UPDATE sluice_channels SET setting_sealed = key_sealed WHERE id = "+id(b.ID))
	u := e.user(t, "bob", 1)
	e.exec(t, "UPDATE sluice_users SET setting_sealed = X'00' WHERE id = "+id(u.ID))
	channels, _, err := e.s.Channels(ctx, core.PageQuery{}, store.ChannelFilter{}) // what is listed can be repaired
	must(t, err)
	equal(t, "listed channels", len(channels.Items), 2)
	users, err := e.s.Users(ctx, core.PageQuery{}, store.UserFilter{})
	must(t, err)
	equal(t, "listed user", users.Items[0].Username, "bob")
	e.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.SaveUser(ctx, u), tx.SaveChannel(ctx, &core.Channel{ID: a.ID, Name: "a", Status: 1}), tx.SaveChannel(ctx, &core.Channel{ID: b.ID, Name: "b", Status: 1}))
	})
	r, err = e.s.FetchAll(ctx)
	must(t, err)
	equal(t, "bad rows", len(r.Bad), 0)
	_, err = e.s.User(ctx, u.ID)
	must(t, err)
}

func testAudit(t *testing.T, e *env) {
	ctx := t.Context()
	c := e.channel(t, core.Channel{Key: "audit-secret-1", Name: "a"})
	x := *c
	x.Key, x.Name, x.Setting = "audit-secret-2", "b", `{"proxy":"http://u:audit-secret-3@h:1"}`
	rev := e.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.SaveChannel(ctx, &x), tx.PutOption(ctx, "SMTPToken", "audit-secret-4"))
	})
	page, err := e.s.Audits(ctx, core.PageQuery{Limit: 2})
	must(t, err)
	equal(t, "total", page.Total, 3)
	got := page.Items[1]
	equal(t, "actor", got.Actor, actor)
	equal(t, "kind", got.Kind, core.KindChannel)
	equal(t, "entity", got.Entity, id(c.ID))
	equal(t, "op", got.Op, core.OpPut)
	equal(t, "revision", got.Rev, rev-1)
	equal(t, "time", got.At, e.now)
	equal(t, "detail", got.Detail, `{"fields":["key","name","setting"]}`)
	u := e.user(t, "bob", 5)
	e.update(t, func(tx *store.Tx) error { return tx.AddQuota(ctx, u.ID, 7) })
	page, err = e.s.Audits(ctx, core.PageQuery{Limit: 1})
	must(t, err)
	equal(t, "detail of a balance", page.Items[0].Detail, `{"fields":["quota"],"quota_after":12,"quota_before":5}`)
	if dump := e.dump(t, "sluice_audit_logs"); strings.Contains(dump, "audit-secret") {
		t.Fatal("a secret is in the audit log")
	}
	must(t, e.s.Audit(ctx, actor, core.KindToken, "5", store.OpReveal, "{}"))
	page, err = e.s.Audits(ctx, core.PageQuery{Limit: 1})
	must(t, err)
	equal(t, "op", page.Items[0].Op, store.OpReveal)
}
