package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func id(n int64) string { return strconv.FormatInt(n, 10) }

func fullChannel(e *env) core.Channel {
	return core.Channel{Type: 14, Key: "sk-upstream\nsk-second", Name: "Kanal Ä 'x' \\", Status: core.ChannelEnabled, Weight: 5, Priority: -3, BaseURL: "http://10.0.0.1:11434",
		Organization: "org", TestModel: "m1", Other: "2024-02-01", Models: []string{"m1", "m2:latest"}, Groups: []string{"default", "vip"},
		ModelMapping: `{"a":"b"}`, StatusCodeMapping: `{"429":"500"}`, ParamOverride: `{"temperature":0}`, HeaderOverride: `{"X-Key":"hidden-header"}`,
		Setting: `{"proxy":"http://user:hidden-proxy@10.0.0.2:3128"}`, Settings: `{"x":1}`, Tag: "tag", Remark: "remark", AutoBan: true,
		Balance: core.MustRatio("12.345678901"), BalanceAt: e.now, CreatedAt: e.now, OtherInfo: `{"status_reason":"x"}`}
}

func sameChannel(t *testing.T, what string, got *core.Channel, want core.Channel) {
	t.Helper()
	g := *got
	g.Parsed, want.Parsed = core.ChannelRules{}, core.ChannelRules{}
	if !reflect.DeepEqual(g, want) {
		t.Fatalf("%s: got %#v\nwant %#v", what, g, want)
	}
}

func testChannels(t *testing.T, e *env) {
	ctx := t.Context()
	c := fullChannel(e)
	e.update(t, func(tx *store.Tx) error { return tx.CreateChannel(ctx, &c) })
	got, err := e.s.Channel(ctx, c.ID)
	must(t, err)
	want := c
	want.Rev = got.Rev
	sameChannel(t, "created", got, want)
	equal(t, "prepared proxy", got.Parsed.Proxy.Reveal(), "http://user:hidden-proxy@10.0.0.2:3128")

	before := e.dump(t, "sluice_channels")
	rev := e.update(t, func(tx *store.Tx) error { return tx.SaveChannel(ctx, got) })
	equal(t, "revision after saving what is there", rev, got.Rev)
	equal(t, "row after saving what is there", e.dump(t, "sluice_channels"), before)
	want.Key, want.Name, want.Setting, want.HeaderOverride, want.Models = "", "renamed", "", `{"X-Key":"second"}`, nil
	want.Balance, want.UsedQuota = 0, 99 // not management's
	rev = e.update(t, func(tx *store.Tx) error { return tx.SaveChannel(ctx, &want) })
	got, err = e.s.Channel(ctx, c.ID)
	must(t, err)
	want.Key, want.Rev, want.Balance, want.UsedQuota = c.Key, rev, c.Balance, 0
	sameChannel(t, "saved", got, want)
	want.Key = "sk-third"
	e.update(t, func(tx *store.Tx) error {
		x, err := tx.ChannelForUpdate(ctx, c.ID)
		must(t, err)
		equal(t, "key in transaction", x.Key, c.Key)
		return tx.SaveChannel(ctx, &want)
	})
	got, err = e.s.Channel(ctx, c.ID)
	must(t, err)
	equal(t, "new key", got.Key.Reveal(), "sk-third")

	e.update(t, func(tx *store.Tx) error {
		return tx.SetChannelStatus(ctx, c.ID, core.ChannelAutoDisabled, `{"status_reason":"401"}`)
	})
	must(t, e.s.SetChannelTest(ctx, c.ID, 1500*time.Millisecond, e.now))
	must(t, e.s.SetChannelTest(ctx, c.ID, 1500*time.Millisecond, e.now))
	must(t, e.s.SetChannelBalance(ctx, c.ID, core.MustRatio("-1.5"), e.now.Add(time.Second)))
	got, err = e.s.Channel(ctx, c.ID)
	must(t, err)
	equal(t, "status", got.Status, core.ChannelAutoDisabled)
	equal(t, "reason", got.OtherInfo, `{"status_reason":"401"}`)
	equal(t, "response time", got.ResponseTime, 1500*time.Millisecond)
	equal(t, "tested", got.TestedAt, e.now)
	equal(t, "balance", got.Balance, core.MustRatio("-1.5"))

	bad := fullChannel(e)
	bad.ModelMapping = `{"a":"b","b":"a"}`
	e.refused(t, core.CodeInvalidRequest, func(tx *store.Tx) error { return tx.CreateChannel(ctx, &bad) })
	bad = *got
	bad.HeaderOverride = "no JSON"
	e.refused(t, core.CodeInvalidRequest, func(tx *store.Tx) error { return tx.SaveChannel(ctx, &bad) })
	bad = fullChannel(e)
	bad.ID = 99
	e.refused(t, core.CodeNotFound, func(tx *store.Tx) error { return tx.SaveChannel(ctx, &bad) })
	e.refused(t, core.CodeNotFound, func(tx *store.Tx) error { return tx.DeleteChannel(ctx, 99) })
	e.refused(t, core.CodeNotFound, func(tx *store.Tx) error { return tx.SetChannelStatus(ctx, 99, 1, "") })
	e.update(t, func(tx *store.Tx) error { return tx.DeleteChannel(ctx, c.ID) })
	_, err = e.s.Channel(ctx, c.ID)
	wantCode(t, err, core.CodeNotFound)
}

func testChannelLists(t *testing.T, e *env) {
	ctx := t.Context()
	var made []*core.Channel
	for i := range 6 {
		made = append(made, e.channel(t, core.Channel{Name: fmt.Sprintf("c%d 100%%_x", i), Key: "secret-key", Type: i % 2, Priority: int64(i / 2), Tag: []string{"a", "b"}[i%2],
			Groups: []string{"default", []string{"vip", "VIP"}[i%2]}, Models: []string{fmt.Sprintf("gpt-%d", i)}, BaseURL: "http://Host/", Setting: `{"proxy":"http://h:1"}`}))
	}
	e.update(t, func(tx *store.Tx) error { return tx.SetChannelStatus(ctx, made[5].ID, core.ChannelDisabled, "") })
	enabled, one := core.ChannelEnabled, 1
	for _, c := range []struct {
		name   string
		filter store.ChannelFilter
		page   core.PageQuery
		want   []int // indexes, in order
		total  int64
		types  map[int]int64
	}{
		{"all by priority", store.ChannelFilter{}, core.PageQuery{}, []int{5, 4, 3, 2, 1, 0}, 6, map[int]int64{0: 3, 1: 3}},
		{"window", store.ChannelFilter{}, core.PageQuery{Offset: 1, Limit: 2}, []int{4, 3}, 6, map[int]int64{0: 3, 1: 3}},
		{"by id", store.ChannelFilter{SortBy: "id"}, core.PageQuery{Limit: 3}, []int{0, 1, 2}, 6, map[int]int64{0: 3, 1: 3}},
		{"by name down", store.ChannelFilter{SortBy: "name", Desc: true}, core.PageQuery{Limit: 2}, []int{5, 4}, 6, map[int]int64{0: 3, 1: 3}},
		{"unknown order", store.ChannelFilter{SortBy: "id; DROP TABLE x"}, core.PageQuery{Limit: 1}, []int{5}, 6, map[int]int64{0: 3, 1: 3}},
		{"type", store.ChannelFilter{Type: &one}, core.PageQuery{}, []int{5, 3, 1}, 3, map[int]int64{0: 3, 1: 3}},
		{"status", store.ChannelFilter{Status: &enabled, Type: &one}, core.PageQuery{}, []int{3, 1}, 2, map[int]int64{0: 3, 1: 2}},
		{"disabled", store.ChannelFilter{Disabled: true}, core.PageQuery{}, []int{5}, 1, map[int]int64{1: 1}},
		{"group", store.ChannelFilter{Group: "vip"}, core.PageQuery{}, []int{4, 2, 0}, 3, map[int]int64{0: 3}},
		{"part of group", store.ChannelFilter{Group: "vi"}, core.PageQuery{}, nil, 0, map[int]int64{}},
		{"model", store.ChannelFilter{Model: "PT-2"}, core.PageQuery{}, []int{2}, 1, map[int]int64{0: 1}},
		{"tag", store.ChannelFilter{Tag: "b"}, core.PageQuery{}, []int{5, 3, 1}, 3, map[int]int64{1: 3}},
		{"name", store.ChannelFilter{Keyword: "C3"}, core.PageQuery{}, []int{3}, 1, map[int]int64{1: 1}},
		{"base URL", store.ChannelFilter{Keyword: "host"}, core.PageQuery{Limit: 1}, []int{5}, 6, map[int]int64{0: 3, 1: 3}},
		{"wildcards are letters", store.ChannelFilter{Keyword: "100%_x"}, core.PageQuery{Limit: 1}, []int{5}, 6, map[int]int64{0: 3, 1: 3}},
		{"wildcard", store.ChannelFilter{Keyword: "c_ 1"}, core.PageQuery{}, nil, 0, map[int]int64{}},
		{"escape", store.ChannelFilter{Keyword: "!"}, core.PageQuery{}, nil, 0, map[int]int64{}},
	} {
		page, types, err := e.s.Channels(ctx, c.page, c.filter)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got []int
		for _, x := range page.Items {
			got = append(got, slices.IndexFunc(made, func(m *core.Channel) bool { return m.ID == x.ID }))
			equal(t, c.name+": key", x.Key, "")
			equal(t, c.name+": setting", x.Setting, `{"proxy":"http://h:1"}`)
		}
		if !slices.Equal(got, c.want) || page.Total != c.total || !reflect.DeepEqual(types, c.types) {
			t.Errorf("%s: got %v of %d %v, want %v of %d %v", c.name, got, page.Total, types, c.want, c.total, c.types)
		}
	}
	page, _, err := e.s.Channels(ctx, core.PageQuery{}, store.ChannelFilter{Keyword: id(made[2].ID)})
	must(t, err)
	if !slices.ContainsFunc(page.Items, func(c *core.Channel) bool { return c.ID == made[2].ID }) {
		t.Error("not found by id")
	}
	_, _, err = e.s.Channels(ctx, core.PageQuery{}, store.ChannelFilter{Keyword: strings.Repeat("%", 200)})
	wantCode(t, err, core.CodeInvalidRequest)
}

func ratio(s string) *core.Ratio { r := core.MustRatio(s); return &r }

func testNamedRows(t *testing.T, e *env) {
	ctx := t.Context()
	g := &core.Group{Name: "vip", Ratio: core.MustRatio("0.123456789"), HasRatio: true, Usable: true, Description: "VIP 组", Ratios: map[string]core.Ratio{"b": core.RatioOne, "a": 5}}
	p := &core.Price{Model: "m", Ratio: ratio("0"), Completion: ratio("9000000000"), Cache: ratio("0.000000001"), CreateCache: ratio("1.25"), Image: ratio("2"), Audio: ratio("3"),
		AudioCompletion: ratio("4"), PerCall: ratio("-0.000000001"), AudioInputUSD: ratio("6")}
	sparse := &core.Price{Model: "sparse"}
	big := strings.Repeat("ü€😀", 20_000)
	e.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.PutGroup(ctx, g), tx.PutPrice(ctx, p), tx.PutPrice(ctx, sparse), tx.PutOption(ctx, "About", big), tx.PutOption(ctx, "SMTPToken", "option-secret"))
	})
	r, err := e.s.FetchAll(ctx)
	must(t, err)
	got := *r.Rows.Groups["vip"]
	g.Rev = got.Rev
	if !reflect.DeepEqual(got, *g) {
		t.Fatalf("group %+v, want %+v", got, *g)
	}
	gotPrice := *r.Rows.Prices["m"]
	p.Rev = gotPrice.Rev
	if !reflect.DeepEqual(gotPrice, *p) {
		t.Fatalf("price %+v, want %+v", gotPrice, *p)
	}
	if s := r.Rows.Prices["sparse"]; s.Ratio != nil || s.PerCall != nil || s.AudioInputUSD != nil {
		t.Fatalf("sparse price %+v", s)
	}
	equal(t, "About", r.Rows.Options["About"], big)
	equal(t, "secret option", r.Rows.Options["SMTPToken"], "option-secret")

	p.Ratio, p.PerCall, g.Ratios, g.Ratio = nil, ratio("7"), nil, 0
	rev := e.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.PutGroup(ctx, g), tx.PutPrice(ctx, p), tx.PutOption(ctx, "About", "short"), tx.PutOption(ctx, "SMTPToken", "second"))
	})
	again := e.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.PutGroup(ctx, g), tx.PutPrice(ctx, p), tx.PutOption(ctx, "About", "short"), tx.PutOption(ctx, "SMTPToken", "second"))
	})
	equal(t, "revision after putting what is there", again, rev)
	r, err = e.s.FetchAll(ctx)
	must(t, err)
	if x := r.Rows.Prices["m"]; x.Ratio != nil || *x.PerCall != core.MustRatio("7") {
		t.Fatalf("price %+v", x)
	}
	equal(t, "ratios", len(r.Rows.Groups["vip"].Ratios), 0)
	equal(t, "About", r.Rows.Options["About"], "short")
	equal(t, "secret option", r.Rows.Options["SMTPToken"], "second")
	e.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.DeleteGroup(ctx, "vip"), tx.DeletePrice(ctx, "m"), tx.DeleteOption(ctx, "About"))
	})
	e.refused(t, core.CodeNotFound, func(tx *store.Tx) error { return tx.DeleteOption(ctx, "About") })
	e.refused(t, core.CodeInvalidRequest, func(tx *store.Tx) error { return tx.PutOption(ctx, "RetryTimes", "many") })
	e.refused(t, core.CodeInvalidRequest, func(tx *store.Tx) error { return tx.PutGroup(ctx, &core.Group{Name: strings.Repeat("x", 256)}) })
	// Many rows in one transaction, each with a revision of its own.
	e.update(t, func(tx *store.Tx) error {
		for i := range 450 {
			if err := tx.PutPrice(ctx, &core.Price{Model: fmt.Sprintf("model-%03d", i), Ratio: ratio("1")}); err != nil {
				return err
			}
		}
		return nil
	})
	equal(t, "revisions", e.number(t, "SELECT COUNT(DISTINCT rev) FROM sluice_prices WHERE model LIKE 'model-%'"), 450)
	_, last, err := e.s.Revision(ctx)
	must(t, err)
	equal(t, "last", e.number(t, "SELECT rev FROM sluice_prices WHERE model = 'model-449'"), int64(last))
}

func testSearches(t *testing.T, e *env) {
	ctx := t.Context()
	u := e.user(t, "alpha_one", 1)
	e.user(t, "alphaXone", 2)
	other := e.user(t, "beta", 3)
	e.update(t, func(tx *store.Tx) error {
		return tx.SaveUser(ctx, &core.User{ID: other.ID, Username: "beta", DisplayName: "100% Beta!", Email: "beta@Example.com", Role: core.RoleAdmin, Status: core.UserDisabled, Group: "vip", PasswordHash: "hash-of-beta"})
	})
	for _, c := range []struct {
		filter store.UserFilter
		want   string
	}{
		{store.UserFilter{}, "beta alphaXone alpha_one"},
		{store.UserFilter{Keyword: "ALPHA"}, "alphaXone alpha_one"},
		{store.UserFilter{Keyword: "a_o"}, "alpha_one"},
		{store.UserFilter{Keyword: "%"}, "beta"},
		{store.UserFilter{Keyword: "beta!"}, "beta"},
		{store.UserFilter{Keyword: "example.COM"}, "beta"},
		{store.UserFilter{Keyword: `\`}, ""},
		{store.UserFilter{Keyword: "' OR 1=1 --"}, ""},
		{store.UserFilter{Group: "vip"}, "beta"},
		{store.UserFilter{Role: core.RoleUser}, "alphaXone alpha_one"},
		{store.UserFilter{Status: core.UserDisabled}, "beta"},
		{store.UserFilter{Status: core.UserDisabled, Keyword: "alpha"}, ""},
	} {
		page, err := e.s.Users(ctx, core.PageQuery{Limit: 10}, c.filter)
		must(t, err)
		var names []string
		for _, u := range page.Items {
			names = append(names, u.Username)
			equal(t, "hash in a list", u.PasswordHash, "")
		}
		equal(t, fmt.Sprintf("users of %+v", c.filter), strings.Join(names, " "), c.want)
		equal(t, "total", page.Total, int64(len(page.Items)))
	}
	page, err := e.s.Users(ctx, core.PageQuery{Limit: 1, Offset: 1}, store.UserFilter{})
	must(t, err)
	equal(t, "second page", page.Items[0].Username, "alphaXone")
	equal(t, "total", page.Total, 3)
	_, err = e.s.Users(ctx, core.PageQuery{}, store.UserFilter{Keyword: strings.Repeat("x", 129)})
	wantCode(t, err, core.CodeInvalidRequest)

	tok, key := e.token(t, u.ID, 1)
	e.token(t, u.ID, 2)
	e.token(t, other.ID, 3)
	for _, c := range []struct {
		filter store.TokenFilter
		want   int
	}{
		{store.TokenFilter{}, 2}, {store.TokenFilter{Keyword: "TOK"}, 2}, {store.TokenFilter{Keyword: "_oken"}, 0},
		{store.TokenFilter{KeyPart: key.Reveal()}, 1}, {store.TokenFilter{KeyPart: "sk-" + key.Reveal()}, 1}, {store.TokenFilter{KeyPart: key.Reveal()[:4]}, 1}, {store.TokenFilter{KeyPart: "%"}, 0},
	} {
		page, err := e.s.Tokens(ctx, u.ID, core.PageQuery{}, c.filter)
		must(t, err)
		equal(t, fmt.Sprintf("tokens of %+v", c.filter), len(page.Items), c.want)
		equal(t, "total", page.Total, int64(c.want))
		if c.filter.KeyPart == key.Reveal() {
			equal(t, "token by key", page.Items[0].ID, tok.ID)
		}
	}
}

// testMatchedRows: a statement that finds its row and changes nothing counts
// as a match on both dialects, since the guards stand in WHERE.
func testMatchedRows(t *testing.T, e *env) {
	ctx := t.Context()
	u := e.user(t, "bob", 0)
	hash := e.opts.Keys.AccessTokenHash("x")
	for range 2 {
		e.update(t, func(tx *store.Tx) error { return tx.SetUserAccessToken(ctx, u.ID, hash) })
		e.update(t, func(tx *store.Tx) error { _, err := tx.SetQuota(ctx, u.ID, 7); return err })
	}
	must(t, e.s.CheckCanary(ctx))
	must(t, e.s.CheckCanary(ctx)) // locks by an update that changes nothing
	_, err := e.s.Reserve(ctx, store.Lease{ID: "l", UserID: u.ID, Granted: 7}, 1, false)
	must(t, err)
	done, err := e.s.Settle(ctx, store.SettleRequest{LeaseID: "l", UserID: u.ID, Granted: 7, Actual: 7, State: store.LeaseSettled})
	must(t, err)
	equal(t, "done of a settlement that gives nothing back", done, true)
}

// testOddTexts: whatever clients and upstreams send, it is text to the database.
func testOddTexts(t *testing.T, e *env) {
	ctx := t.Context()
	e.user(t, "bob", 0)
	for _, odd := range []string{"a\x00b", "'; DROP TABLE sluice_users; --", `\'`, `\`, "\xff\xfe", "\u2028\r\n\t\x1b", "?0 ?? ?", "{}%s%d", "\U0001F600", strings.Repeat("'", 100)} {
		must(t, e.s.InsertLogs(ctx, []core.UsageLog{{Content: odd, Model: odd, Username: odd, RequestID: odd[:min(len(odd), 20)], Other: odd}}))
		page, err := e.s.Logs(ctx, core.LogFilter{}, core.PageQuery{Limit: 1})
		must(t, err)
		want := strings.ReplaceAll(strings.ToValidUTF8(odd, "\uFFFD"), "\x00", "")
		equal(t, "content", page.Items[0].Content, want)
		page, err = e.s.Logs(ctx, core.LogFilter{Model: want, Username: want}, core.PageQuery{})
		must(t, err)
		equal(t, "rows of the model", len(page.Items), 1)
		for _, login := range []string{odd, "bob" + odd, "bob\x00"} {
			if _, err := e.s.UserByLogin(ctx, login); !core.IsCode(err, core.CodeNotFound) {
				t.Errorf("login %q: %v", login, err)
			}
		}
		if _, err := e.s.Users(ctx, core.PageQuery{}, store.UserFilter{Keyword: odd}); err != nil && (utf8.ValidString(odd) || !core.IsCode(err, core.CodeInvalidRequest)) {
			t.Errorf("keyword %q: %v", odd, err)
		}
		_, _, err = e.s.Session(ctx, odd)
		wantCode(t, err, core.CodeUnauthorized)
		if _, err := e.s.UserByAccessToken(ctx, core.Secret(odd)); !core.IsCode(err, core.CodeNotFound) {
			t.Errorf("access token %q: %v", odd, err)
		}
		err = e.tryUpdate(ctx, func(tx *store.Tx) error { return tx.PutOption(ctx, "About", odd) })
		if strings.Contains(odd, "\x00") || !utf8.ValidString(odd) {
			wantCode(t, err, core.CodeInvalidRequest)
			continue
		}
		must(t, err)
		r, err := e.s.FetchAll(ctx)
		must(t, err)
		equal(t, "option", r.Rows.Options["About"], odd)
	}
}

// testManyChanges: one look at the log is bounded, and says so by its end.
func testManyChanges(t *testing.T, e *env) {
	ctx := t.Context()
	e.update(t, func(tx *store.Tx) error {
		for i := range store.MaxChanges + 5 {
			if err := tx.PutOption(ctx, fmt.Sprintf("k%d", i), "x"); err != nil {
				return err
			}
		}
		return nil
	})
	r, err := e.s.FetchSince(ctx, 0)
	must(t, err)
	equal(t, "changes", len(r.Changes), store.MaxChanges)
	equal(t, "last change", r.Changes[store.MaxChanges-1].Rev, store.MaxChanges)
	equal(t, "revision", r.Rev, store.MaxChanges+5)
	r, err = e.s.FetchSince(ctx, store.MaxChanges)
	must(t, err)
	equal(t, "the rest", len(r.Changes), 5)
}

func testNodes(t *testing.T, e *env) {
	ctx := t.Context()
	n := &core.Node{ID: "n1", Boot: "b1", Name: "one", Role: core.NodeMaster, Version: "v1", Revision: 1 << 40, StartedAt: e.now}
	for range 3 { // the same row again is found, not inserted
		must(t, e.s.UpsertNode(ctx, n))
	}
	must(t, e.s.UpsertNode(ctx, &core.Node{ID: "n2", Boot: "b", Name: "two", Role: core.NodeSlave}))
	n.Boot = "b2"
	must(t, e.s.UpsertNode(ctx, n))
	nodes, err := e.s.Nodes(ctx)
	must(t, err)
	equal(t, "nodes", len(nodes), 2)
	got := *nodes[0]
	if d := time.Since(got.SeenAt); d < -10*time.Second || d > 10*time.Minute {
		t.Fatalf("seen %v ago by the database's clock", d)
	}
	got.SeenAt = time.Time{}
	equal(t, "node", got, *n)
}
