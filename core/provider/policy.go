package provider

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Policy says which addresses may be dialled. The zero value is that of
// channels: any address but those that are never an upstream.
type Policy struct {
	// Public allows globally reachable unicast addresses only. It is for URLs
	// that come from users.
	Public bool
	// Networks, when not empty, are the only addresses allowed beside the
	// globally reachable ones. They bound the addresses of proxies as well.
	Networks []netip.Prefix
}

// ForbiddenError says that an address may not be dialled. Its text names the
// address and is for logs only.
type ForbiddenError struct {
	Address string
	Reason  string
}

// Error implements error.
func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("address %s is not allowed: %s", e.Address, e.Reason)
}

// Check judges an address. IPv4-mapped, IPv4-compatible, 6to4, NAT64, SIIT,
// Teredo and ISATAP addresses are judged by the IPv4 address inside as well.
func (p Policy) Check(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap() // a zone would keep an address out of every prefix
	if !addr.IsValid() {
		return &ForbiddenError{Address: "(none)", Reason: "not an IP address"}
	}
	if reason := p.judge(addr); reason != "" {
		return &ForbiddenError{Address: addr.String(), Reason: reason}
	}
	return nil
}

func (p Policy) judge(addr netip.Addr) string {
	inner, translated := embedded(addr)
	for _, in := range inner {
		if r := p.judgeOne(in); r != "" {
			return "the IPv4 address inside is " + r
		}
	}
	if translated {
		return "" // a mere notation of the address inside
	}
	return p.judgeOne(addr)
}

func (p Policy) judgeOne(addr netip.Addr) string {
	for _, n := range neverUpstream {
		if n.prefix.Contains(addr) {
			return n.what
		}
	}
	if public(addr) {
		return ""
	}
	if p.Public {
		return "not a public address"
	}
	if len(p.Networks) == 0 {
		return ""
	}
	for _, n := range p.Networks {
		if n.Contains(addr) {
			return ""
		}
	}
	return "outside the allowed networks"
}

type namedPrefix struct {
	prefix netip.Prefix
	what   string
}

// neverUpstream are refused under every policy.
var neverUpstream = []namedPrefix{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local or metadata"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "metadata"},          // AWS
	{netip.MustParsePrefix("100.100.100.200/32"), "metadata"},     // Alibaba Cloud
	{netip.MustParsePrefix("168.63.129.16/32"), "metadata"},       // Azure, a public address
	{netip.MustParsePrefix("192.0.0.192/32"), "metadata"},         // Oracle Cloud
	{netip.MustParsePrefix("fd20:ce::254/128"), "metadata"},       // Google Cloud
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), "metadata"}, // Oracle Cloud
	{netip.MustParsePrefix("fd00:42::42/128"), "metadata"},        // Scaleway
}

// special are the blocks of the IANA special-purpose registries that are not
// globally reachable, or whose reach cannot be told.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.31.196.0/24"),
	netip.MustParsePrefix("192.52.193.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("192.175.48.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2620:4f:8000::/48"), netip.MustParsePrefix("3fff::/20"),
}

var globalUnicast6 = netip.MustParsePrefix("2000::/3") // all of IPv6 that IANA has given out

func public(addr netip.Addr) bool {
	if addr.Is6() && !globalUnicast6.Contains(addr) {
		return false
	}
	for _, s := range special {
		if s.Contains(addr) {
			return false
		}
	}
	return true
}

var (
	mapped     = netip.MustParsePrefix("::ffff:0:0/96")
	compatible = netip.MustParsePrefix("::/96")
	siit       = netip.MustParsePrefix("::ffff:0:0:0/96")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
)

// embedded finds the IPv4 addresses that an IPv6 address stands for. translated
// means that the packet ends at that IPv4 address and nowhere else.
func embedded(addr netip.Addr) (inner []netip.Addr, translated bool) {
	if !addr.Is6() {
		return nil, false
	}
	b := addr.As16()
	v4 := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case addr.IsUnspecified() || addr.IsLoopback():
		return nil, false
	case mapped.Contains(addr), siit.Contains(addr), nat64.Contains(addr), compatible.Contains(addr):
		return []netip.Addr{v4(12)}, true
	case nat64Local.Contains(addr): // RFC 6052: where it stands depends on the length of the operator's prefix
		return []netip.Addr{
			netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),
			netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}),
			netip.AddrFrom4([4]byte{b[9], b[10], b[11], b[12]}), v4(12),
		}, true
	case sixToFour.Contains(addr):
		return []netip.Addr{v4(2)}, true
	case teredo.Contains(addr):
		client := netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
		return []netip.Addr{v4(4), client}, false
	case (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP
		return []netip.Addr{v4(12)}, false
	}
	return nil, false
}

// checkLiteral judges the host of a URL that somebody else will resolve (a
// proxy): all that can be told from here is what an address literal, in any
// spelling that a resolver takes, and the well-known metadata names mean.
func (p Policy) checkLiteral(host string) error {
	name := strings.ToLower(strings.TrimRight(host, "."))
	if a, err := netip.ParseAddr(name); err == nil {
		return p.Check(a)
	}
	if a, ok := looseIPv4(name); ok {
		return p.Check(a)
	}
	switch name {
	case "metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal", "metadata.tencentyun.com":
		return &ForbiddenError{Address: host, Reason: "metadata"}
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return p.Check(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	if name == "" {
		return &ForbiddenError{Address: host, Reason: "no host"}
	}
	return nil
}

// looseIPv4 reads the forms of inet_aton: one to four numbers, decimal, octal
// (0…) or hexadecimal (0x…), the last one filling what is left.
func looseIPv4(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 0, 64)
		if err != nil || strings.ContainsAny(part, "_+oObB") && !strings.HasPrefix(part, "0x") && !strings.HasPrefix(part, "0X") {
			return netip.Addr{}, false
		}
		if i < len(parts)-1 {
			if n > 255 {
				return netip.Addr{}, false
			}
			v = v<<8 | n
			continue
		}
		bits := 8 * (5 - len(parts))
		if n >= 1<<bits {
			return netip.Addr{}, false
		}
		v = v<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}
