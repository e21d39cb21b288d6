package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

func testLogs(t *testing.T, e *env) {
	ctx := t.Context()
	l := core.UsageLog{At: e.now, Type: core.LogConsume, UserID: 1, Username: "bob", TokenID: 2, TokenName: "tök 'x' \\", ChannelID: 3, Model: "gpt-4", Group: "default", Quota: 1 << 40,
		PromptTokens: 1 << 33, CompletionTokens: 5, UseTime: 1234 * time.Millisecond, Stream: true, IP: "192.0.2.1", RequestID: "req", Content: "a\nb\t\"c\" 😀 ?", Other: `{"model_ratio":1}`}
	must(t, e.s.InsertLogs(ctx, nil))
	must(t, e.s.InsertLogs(ctx, []core.UsageLog{l}))
	page, err := e.s.Logs(ctx, core.LogFilter{}, core.PageQuery{})
	must(t, err)
	equal(t, "total", page.Total, 1)
	l.ID = page.Items[0].ID
	equal(t, "row", page.Items[0], l)

	many := make([]core.UsageLog, 1203)
	for i := range many {
		many[i] = core.UsageLog{At: e.now.Add(time.Duration(i) * time.Millisecond), Type: core.LogError, UserID: 5, RequestID: fmt.Sprintf("r%d", i), Content: strings.Repeat("x", i%7*300), Model: strings.Repeat("m", 300)}
	}
	must(t, e.s.InsertLogs(ctx, many))
	page, err = e.s.Logs(ctx, core.LogFilter{UserID: 5}, core.PageQuery{Limit: 1000, Offset: 200})
	must(t, err)
	equal(t, "total", page.Total, 1203)
	equal(t, "rows", len(page.Items), 1000)
	equal(t, "newest of the window", page.Items[0].RequestID, "r1002")
	equal(t, "model cut to its column", page.Items[0].Model, strings.Repeat("m", 255))

	n, err := e.s.DeleteLogs(ctx, e.now.Add(1000*time.Millisecond))
	must(t, err)
	equal(t, "deleted", n, 1001)
	equal(t, "left", e.number(t, "SELECT COUNT(*) FROM sluice_usage_logs"), 203)
	n, err = e.s.DeleteLogs(ctx, e.now.Add(time.Hour))
	must(t, err)
	equal(t, "deleted", n, 203)
}

func testLogFilters(t *testing.T, e *env) {
	ctx := t.Context()
	bob := e.user(t, "bob", 0)
	at := func(s int) time.Time { return e.now.Add(time.Duration(s) * time.Second) }
	must(t, e.s.InsertLogs(ctx, []core.UsageLog{
		{At: at(-100), Type: core.LogConsume, UserID: bob.ID, Username: "bob", TokenID: 1, TokenName: "one", ChannelID: 1, Model: "a", Group: "default", Quota: 1, PromptTokens: 10, CompletionTokens: 1, RequestID: "r1"},
		{At: at(-30), Type: core.LogConsume, UserID: bob.ID, Username: "bob", TokenID: 2, TokenName: "two", ChannelID: 2, Model: "A", Group: "vip", Quota: 2, PromptTokens: 20, CompletionTokens: 2, RequestID: "r2"},
		{At: at(-20), Type: core.LogError, UserID: bob.ID, Username: "bob", TokenID: 2, TokenName: "two", ChannelID: 2, Model: "a", Group: "vip", Quota: 4, PromptTokens: 40, RequestID: "r3"},
		{At: at(-10), Type: core.LogConsume, UserID: 99, Username: "deleted", TokenID: 3, TokenName: "one", ChannelID: 1, Model: "b", Group: "default", Quota: 8, PromptTokens: 80, CompletionTokens: 8, RequestID: "r4"},
	}))
	for _, c := range []struct {
		name   string
		filter core.LogFilter
		want   string
		stat   core.LogStat
	}{
		{"all", core.LogFilter{}, "r4 r3 r2 r1", core.LogStat{Quota: 11, RPM: 2, TPM: 110}},
		{"type", core.LogFilter{Type: core.LogError}, "r3", core.LogStat{Quota: 4, RPM: 1, TPM: 40}},
		{"user", core.LogFilter{UserID: bob.ID}, "r3 r2 r1", core.LogStat{Quota: 3, RPM: 1, TPM: 22}},
		{"name", core.LogFilter{Username: "bob"}, "r3 r2 r1", core.LogStat{Quota: 3, RPM: 1, TPM: 22}},
		{"name of other case", core.LogFilter{Username: "Bob"}, "", core.LogStat{}},
		{"name of a deleted user", core.LogFilter{Username: "deleted"}, "r4", core.LogStat{Quota: 8, RPM: 1, TPM: 88}},
		{"somebody else's name", core.LogFilter{UserID: bob.ID, Username: "deleted"}, "", core.LogStat{}},
		{"token", core.LogFilter{TokenID: 2}, "r3 r2", core.LogStat{Quota: 2, RPM: 1, TPM: 22}},
		{"token name", core.LogFilter{TokenName: "one"}, "r4 r1", core.LogStat{Quota: 9, RPM: 1, TPM: 88}},
		{"model", core.LogFilter{Model: "a"}, "r3 r1", core.LogStat{Quota: 1}},
		{"channel", core.LogFilter{ChannelID: 2}, "r3 r2", core.LogStat{Quota: 2, RPM: 1, TPM: 22}},
		{"group", core.LogFilter{Group: "vip"}, "r3 r2", core.LogStat{Quota: 2, RPM: 1, TPM: 22}},
		{"request", core.LogFilter{RequestID: "r2"}, "r2", core.LogStat{Quota: 2, RPM: 1, TPM: 22}},
		{"from", core.LogFilter{From: at(-20)}, "r4 r3", core.LogStat{Quota: 8, RPM: 2, TPM: 110}},
		{"to", core.LogFilter{To: at(-30)}, "r2 r1", core.LogStat{Quota: 3, RPM: 2, TPM: 110}},
		{"both", core.LogFilter{From: at(-30), To: at(-20), UserID: bob.ID}, "r3 r2", core.LogStat{Quota: 2, RPM: 1, TPM: 22}},
		{"wildcard", core.LogFilter{Model: "%"}, "", core.LogStat{}},
	} {
		page, err := e.s.Logs(ctx, c.filter, core.PageQuery{})
		must(t, err)
		var got []string
		for _, l := range page.Items {
			got = append(got, l.RequestID)
		}
		equal(t, c.name, strings.Join(got, " "), c.want)
		equal(t, c.name+": total", page.Total, int64(len(got)))
		st, err := e.s.LogStat(ctx, c.filter)
		must(t, err)
		equal(t, c.name+": stat", st, c.stat)
	}
}

// testLogBounds: a list counts no further than it says.
func testLogBounds(t *testing.T, e *env) {
	ctx := t.Context()
	many := make([]core.UsageLog, 10_500)
	for i := range many {
		many[i] = core.UsageLog{At: e.now, UserID: 1, Type: core.LogConsume}
	}
	must(t, e.s.InsertLogs(ctx, many))
	for _, f := range []core.LogFilter{{}, {UserID: 1}} {
		page, err := e.s.Logs(ctx, f, core.PageQuery{Limit: 1_000_000, Offset: -5})
		must(t, err)
		equal(t, "total", page.Total, 10_000)
		equal(t, "rows", len(page.Items), 1000)
	}
}
