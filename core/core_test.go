package core

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestSecretNeverShows(t *testing.T) {
	const planted = "planted-secret-text"
	v := struct{ Key Secret }{planted}
	j, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", v.Key, "struct", v)
	for _, s := range []string{fmt.Sprint(v), fmt.Sprintf("%+v %#v %s %q", v, v, v.Key, v.Key), string(j), log.String()} {
		if strings.Contains(s, planted) {
			t.Errorf("shown: %s", s)
		}
	}
	if v.Key.Reveal() != planted {
		t.Error("Reveal lost the text")
	}
}

func TestTokenAllowsIP(t *testing.T) {
	list, err := ParseAllowIPs("10.0.0.0/8\n192.168.1.7, 2001:db8::/32\r\n::ffff:1.2.3.0/120")
	if err != nil {
		t.Fatal(err)
	}
	tok := &Token{AllowIPs: list}
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "192.168.1.7": true, "192.168.1.8": false,
		"2001:db8:1::1": true, "2001:db9::1": false, "1.2.3.200": true, "1.2.4.1": false,
	} {
		if got := tok.AllowsIP(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if tok.AllowsIP(netip.Addr{}) {
		t.Error("an unknown address passed a list")
	}
	if !(&Token{}).AllowsIP(netip.Addr{}) {
		t.Error("no list must allow all")
	}
	if got := FormatAllowIPs(list); got != "10.0.0.0/8\n192.168.1.7\n2001:db8::/32\n1.2.3.0/24" {
		t.Errorf("format: %q", got)
	}
	for _, bad := range []string{"10.0.0.0/33", "example.com", "1.2.3"} {
		if _, err := ParseAllowIPs(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestChannelPrepare(t *testing.T) {
	c := &Channel{ModelMapping: `{"a":"b","b":"c","x":"x"}`, StatusCodeMapping: `{"429":"500","503":502}`, HeaderOverride: `{"X-A":"1"}`, Setting: `{"proxy":"socks5://u:p@h:1"}`}
	if err := c.Prepare(); err != nil {
		t.Fatal(err)
	}
	if c.UpstreamModel("a") != "c" || c.UpstreamModel("x") != "x" || c.UpstreamModel("z") != "z" {
		t.Errorf("mapping %v", c.Parsed.Mapping)
	}
	if c.Parsed.StatusCodes[429] != 500 || c.Parsed.StatusCodes[503] != 502 {
		t.Errorf("status codes %v", c.Parsed.StatusCodes)
	}
	for field, bad := range map[string]*Channel{
		"model_mapping":       {ModelMapping: `{"a":"b","b":"a"}`},
		"status_code_mapping": {StatusCodeMapping: `{"429":"200"}`},
		"param_override":      {ParamOverride: `[1]`},
		"header_override":     {HeaderOverride: `{"a":1}`},
		"setting":             {Setting: `{"proxy":"ftp://x"}`},
		"weight":              {Weight: -1},
	} {
		if err := bad.Prepare(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func snapshotOf(t *testing.T, channels ...*Channel) *Snapshot {
	t.Helper()
	rows := Rows{Channels: map[int64]*Channel{}}
	for i, c := range channels {
		c.ID = int64(i + 1)
		rows.Channels[c.ID] = c
	}
	s, err := NewSnapshot(1, "e", rows, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func channel(priority, weight int64) *Channel {
	return &Channel{Status: ChannelEnabled, Priority: priority, Weight: weight, Models: []string{"m", "m"}, Groups: []string{"default"}}
}

func TestCandidatesAndWeights(t *testing.T) {
	off := channel(99, 1)
	off.Status = ChannelDisabled
	s := snapshotOf(t, channel(0, 0), channel(10, 1), channel(10, 3), off, channel(10, 0))
	tiers := s.Candidates("default", "m")
	if len(tiers) != 2 || tiers[0].Priority != 10 || len(tiers[0].Channels) != 3 || tiers[1].Channels[0].ID != 1 {
		t.Fatalf("tiers %+v", tiers)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	all := func(*Channel) bool { return true }
	count := map[int64]int{}
	for range 4000 {
		count[tiers[0].Pick(rnd, all).ID]++
	}
	if count[5] != 0 || count[2] < 800 || count[2] > 1200 {
		t.Errorf("weights 1:3:0 drew %v", count)
	}
	only := func(id int64) func(*Channel) bool { return func(c *Channel) bool { return c.ID == id } }
	if c := tiers[0].Pick(rnd, only(5)); c == nil || c.ID != 5 {
		t.Error("a channel of weight 0 is the last resort")
	}
	if tiers[0].Pick(rnd, func(*Channel) bool { return false }) != nil {
		t.Error("picked a refused channel")
	}
	if !s.HasModel("m") || s.HasModel("n") || len(s.Models("default")) != 1 {
		t.Error("model index")
	}
}

func TestGroupRatio(t *testing.T) {
	s, err := NewSnapshot(1, "e", Rows{Groups: map[string]*Group{
		"default": {Name: "default", Ratio: RatioOne, HasRatio: true, Usable: true, Description: "d"},
		"vip":     {Name: "vip", Ratio: RatioOne / 2, HasRatio: true, Ratios: map[string]Ratio{"default": RatioOne / 4}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		user, using string
		want        Ratio
		special     bool
	}{{"default", "default", RatioOne, false}, {"default", "vip", RatioOne / 2, false}, {"vip", "default", RatioOne / 4, true}, {"x", "y", RatioOne, false}} {
		if r, sp := s.GroupRatio(tc.user, tc.using); r != tc.want || sp != tc.special {
			t.Errorf("%s uses %s: %s %v", tc.user, tc.using, r, sp)
		}
	}
	if !s.GroupUsable("vip", "vip") || !s.GroupUsable("vip", "default") || s.GroupUsable("default", "vip") {
		t.Error("usable groups")
	}
	if got := s.UsableGroups("vip"); len(got) != 2 || got["default"] != "d" {
		t.Errorf("usable groups %v", got)
	}
}

func TestCheckOption(t *testing.T) {
	for k, v := range map[string]string{"QuotaPerUnit": "0", "RetryTimes": "x", "AutoGroups": "{}", "ModelRatio": `{"a":-1}`, "LogConsumeEnabled": "yes", "AutomaticRetryStatusCodes": "99"} {
		err := CheckOption(k, v)
		if !IsCode(err, CodeInvalidRequest) || !strings.Contains(err.Error(), k) {
			t.Errorf("%s=%s: %v", k, v, err)
		}
	}
	for k, v := range map[string]string{"Unknown.thing": "anything", "RetryTimes": "0", "ModelRatio": `{"a":0.5}`} {
		if err := CheckOption(k, v); err != nil {
			t.Errorf("%s=%s: %v", k, v, err)
		}
	}
	o, err := ParseOptions(map[string]string{"RetryTimes": "5", "AutoGroups": `["a","b"]`})
	if err != nil || o.RetryTimes != 5 || len(o.AutoGroups) != 2 || o.QuotaPerUnit != QuotaPerUSD || !o.RetryStatusCodes.Contains(503) || o.RetryStatusCodes.Contains(504) {
		t.Errorf("%+v %v", o, err)
	}
}

func TestOptionSecret(t *testing.T) {
	for key, want := range map[string]bool{"SMTPToken": true, "smtp_password": true, "oidc.client_secret": true, "EpayKey": true, "x.api_key": true, "MyTOKEN": true, "SystemName": false, "token_setting.max_user_tokens": false} {
		if OptionSecret(key) != want {
			t.Errorf("%s: %v", key, !want)
		}
	}
}

func TestPriceOverlay(t *testing.T) {
	r := func(s string) *Ratio { v := MustRatio(s); return &v }
	none := PriceNone
	base := Price{Ratio: r("1"), Completion: r("4"), Cache: r("0.5"), Locked: true}
	got := Price{Model: "m", Ratio: r("2"), Completion: r("9"), Cache: &none}.Overlay(base)
	if *got.Ratio != MustRatio("2") || *got.Completion != MustRatio("4") || got.Cache != nil {
		t.Errorf("%+v", got)
	}
}
