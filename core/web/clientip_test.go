package web

import (
	"net/netip"
	"testing"

	"github.com/sluice-gateway/sluice/core/config"
)

func TestClientIP(t *testing.T) {
	usual := config.Default().Server.TrustedProxies
	for _, c := range []struct {
		name      string
		remote    string
		forwarded []string
		trusted   []netip.Prefix
		want      string
	}{
		{"no proxy", "203.0.113.9:1", nil, usual, "203.0.113.9"},
		{"forged by a stranger", "203.0.113.9:1", []string{"1.2.3.4"}, usual, "203.0.113.9"},
		{"one proxy", "10.0.0.1:1", []string{"203.0.113.9"}, usual, "203.0.113.9"},
		{"forged before a proxy", "10.0.0.1:1", []string{"1.2.3.4, 203.0.113.9"}, usual, "203.0.113.9"},
		{"two proxies", "127.0.0.1:1", []string{"203.0.113.9, 172.16.3.4"}, usual, "203.0.113.9"},
		{"forged private before two proxies", "127.0.0.1:1", []string{"10.9.9.9, 203.0.113.9, 192.168.1.1"}, usual, "203.0.113.9"},
		{"all trusted", "127.0.0.1:1", []string{"10.1.1.1, 10.2.2.2"}, usual, "10.1.1.1"},
		{"two header lines", "127.0.0.1:1", []string{"1.1.1.1", "203.0.113.9, 10.0.0.2"}, usual, "203.0.113.9"},
		{"nonsense ends the walk", "127.0.0.1:1", []string{"1.1.1.1, unknown, 10.0.0.2"}, usual, "10.0.0.2"},
		{"nonsense alone", "127.0.0.1:1", []string{"<script>"}, usual, "127.0.0.1"},
		{"empty", "127.0.0.1:1", []string{""}, usual, "127.0.0.1"},
		{"with port", "10.0.0.1:1", []string{"203.0.113.9:5555"}, usual, "203.0.113.9"},
		{"IPv6", "[fd00::1]:1", []string{"2001:db8::7"}, usual, "2001:db8::7"},
		{"IPv6 with port", "[::1]:1", []string{"[2001:db8::7]:99"}, usual, "2001:db8::7"},
		{"IPv6 in brackets", "[::1]:1", []string{"[2001:db8::7]"}, usual, "2001:db8::7"},
		{"mapped peer", "[::ffff:10.0.0.1]:1", []string{"203.0.113.9"}, usual, "203.0.113.9"},
		{"mapped item", "10.0.0.1:1", []string{"::ffff:203.0.113.9"}, usual, "203.0.113.9"},
		{"zone", "[fe80::1%eth0]:1", nil, usual, "fe80::1"},
		{"nobody trusted", "127.0.0.1:1", []string{"203.0.113.9"}, nil, "127.0.0.1"},
		{"no port", "203.0.113.9", nil, usual, "203.0.113.9"},
		{"public proxy listed", "198.51.100.1:1", []string{"203.0.113.9"}, []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, "203.0.113.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := clientIP(c.remote, c.forwarded, c.trusted); got != netip.MustParseAddr(c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if got := clientIP("@", nil, usual); got.IsValid() {
		t.Errorf("a Unix socket's peer is %s", got)
	}
}

func FuzzClientIP(f *testing.F) {
	f.Add("127.0.0.1:1", "1.2.3.4, 10.0.0.1")
	f.Add("[::1]:1", "[2001:db8::7]:99,,")
	usual := config.Default().Server.TrustedProxies
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		got := clientIP(remote, []string{forwarded}, usual)
		if p := peer(remote); !contains(usual, p) && got != p {
			t.Errorf("a stranger %q chose %s", remote, got)
		}
	})
}

func TestAddressKey(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2:ffff::1": "2001:db8:1:2::/64"} {
		if got := addressKey(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
