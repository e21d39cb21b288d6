package provider

import (
	"net/netip"
	"testing"
)

func TestPolicy(t *testing.T) {
	channels := Policy{}
	tight := Policy{Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16"), netip.MustParsePrefix("169.254.0.0/16")}}
	users := Policy{Public: true}
	for _, tt := range []struct {
		addr                     string
		channel, tightened, user bool
	}{
		{"8.8.8.8", true, true, true},
		{"2606:4700::1111", true, true, true},
		{"127.0.0.1", true, false, false},
		{"127.255.255.254", true, false, false},
		{"::1", true, false, false},
		{"10.0.0.1", true, false, false},
		{"10.1.2.3", true, true, false},
		{"172.16.0.1", true, false, false},
		{"172.32.0.1", true, true, true},
		{"192.168.1.1", true, false, false},
		{"100.64.0.1", true, false, false},
		{"192.0.2.1", true, false, false},
		{"198.18.0.1", true, false, false},
		{"203.0.113.9", true, false, false},
		{"240.0.0.1", true, false, false},
		{"fc00::1", true, false, false},
		{"fd12::1", true, true, false},
		{"fec0::1", true, false, false},
		{"2001:db8::1", true, false, false},
		{"100::1", true, false, false},
		{"4000::1", true, false, false},

		// never
		{"0.0.0.0", false, false, false},
		{"0.1.2.3", false, false, false},
		{"::", false, false, false},
		{"169.254.169.254", false, false, false},
		{"169.254.170.2", false, false, false},
		{"fe80::1", false, false, false},
		{"fe80::1%eth0", false, false, false},
		{"febf::1", false, false, false},
		{"224.0.0.1", false, false, false},
		{"255.255.255.255", false, false, false},
		{"ff02::1", false, false, false},
		{"ff02::1%1", false, false, false},
		{"fd00:ec2::254", false, false, false},
		{"fd00:ec2::23", false, false, false},
		{"fd00:ec2::254%eth0", false, false, false},
		{"100.100.100.200", false, false, false},
		{"168.63.129.16", false, false, false},
		{"192.0.0.192", false, false, false},
		{"fd20:ce::254", false, false, false},

		// the same inside other addresses
		{"::ffff:169.254.169.254", false, false, false},
		{"::ffff:a9fe:a9fe", false, false, false},
		{"::ffff:a9fe:a9fe%eth0", false, false, false},
		{"::ffff:127.0.0.1", true, false, false},
		{"::ffff:8.8.8.8", true, true, true},
		{"::169.254.169.254", false, false, false},
		{"::10.0.0.1", true, false, false},
		{"::ffff:0:169.254.169.254", false, false, false},
		{"64:ff9b::169.254.169.254", false, false, false},
		{"64:ff9b::a9fe:a9fe", false, false, false},
		{"64:ff9b::10.0.0.1", true, false, false},
		{"64:ff9b::8.8.8.8", true, true, true},
		{"64:ff9b:1::a9fe:a9fe", false, false, false},
		{"64:ff9b:1:a9fe:a9:fe00::", false, false, false},
		{"2002:a9fe:a9fe::1", false, false, false},
		{"2002:7f00:1::", true, false, false},
		{"2002:808:808::1", true, true, true},
		{"2001:0:a9fe:a9fe::1", false, false, false},                 // Teredo server
		{"2001:0:808:808:0:0:5601:5601", false, false, false},        // Teredo client 169.254.169.254
		{"2606:4700::5efe:169.254.169.254", false, false, false},     // ISATAP
		{"2606:4700::200:5efe:100.100.100.200", false, false, false}, // ISATAP
		{"2606:4700::5efe:10.0.0.1", true, false, false},
	} {
		addr := netip.MustParseAddr(tt.addr)
		for _, p := range []struct {
			name   string
			policy Policy
			want   bool
		}{{"channels", channels, tt.channel}, {"tightened", tight, tt.tightened}, {"users", users, tt.user}} {
			if err := p.policy.Check(addr); (err == nil) != p.want {
				t.Errorf("%s under %s: %v", tt.addr, p.name, err)
			}
		}
	}
	if err := channels.Check(netip.Addr{}); err == nil {
		t.Error("no address passes")
	}
}

func TestLiterals(t *testing.T) {
	for _, tt := range []struct {
		host          string
		channel, user bool
	}{
		{"api.openai.com", true, true},
		{"api.openai.com.", true, true},
		{"8.8.8.8", true, true},
		{"127.0.0.1", true, false},
		{"localhost", true, false},
		{"LOCALHOST.", true, false},
		{"x.localhost", true, false},
		{"127.1", true, false},
		{"0x7f000001", true, false},
		{"2130706433", true, false},
		{"017700000001", true, false},
		{"169.254.169.254", false, false},
		{"169.254.169.254.", false, false},
		{"0xa9fea9fe", false, false},
		{"0XA9.0xFE.43518", false, false},
		{"2852039166", false, false},
		{"0251.0376.0251.0376", false, false},
		{"169.254.43518", false, false},
		{"169.16689662", false, false},
		{"::ffff:169.254.169.254", false, false},
		{"fd00:ec2::254", false, false},
		{"64:ff9b::a9fe:a9fe", false, false},
		{"fe80::1%eth0", false, false},
		{"metadata.google.internal", false, false},
		{"Metadata.Google.Internal.", false, false},
		{"0", false, false},
		{"", false, false},
		{"1.2.3.4.5", true, true},  // a name
		{"256.1.1.1", true, true},  // a name
		{"4294967296", true, true}, // a name
	} {
		if err := (Policy{}).checkLiteral(tt.host); (err == nil) != tt.channel {
			t.Errorf("%q for a channel: %v", tt.host, err)
		}
		if err := (Policy{Public: true}).checkLiteral(tt.host); (err == nil) != tt.user {
			t.Errorf("%q for a user: %v", tt.host, err)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte{169, 254, 169, 254})
	f.Add([]byte{0x20, 0x02, 169, 254, 169, 254, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	meta := netip.MustParseAddr("169.254.169.254").As4()
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		strict, loose := (Policy{Public: true}).Check(addr), (Policy{}).Check(addr)
		if strict == nil && loose != nil {
			t.Fatalf("%s is open to users and not to channels", addr)
		}
		if u := addr.Unmap(); strict == nil && (u.IsPrivate() || u.IsLoopback() || u.IsMulticast() || u.IsLinkLocalUnicast() || u.IsUnspecified()) {
			t.Fatalf("%s is open to users", addr)
		}
		if len(b) == 16 && [4]byte(b[12:]) == meta && [12]byte(b[:12]) == [12]byte{10: 0xff, 11: 0xff} && loose == nil {
			t.Fatalf("%s is open", addr)
		}
	})
}
