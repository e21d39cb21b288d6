package web

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/sluice-gateway/sluice/core/config"
)

// NewClientIP makes the function that tells where a request comes from: the
// peer, or, where the peer is a trusted proxy, the rightmost address of
// X-Forwarded-For that is none. What stands left of it anyone may have written.
func NewClientIP(cfg func() *config.Config) func(*http.Request) netip.Addr {
	return func(r *http.Request) netip.Addr {
		return clientIP(r.RemoteAddr, r.Header.Values("X-Forwarded-For"), cfg().Server.TrustedProxies)
	}
}

func clientIP(remote string, forwarded []string, trusted []netip.Prefix) netip.Addr {
	addr := peer(remote)
	if len(forwarded) == 0 || !contains(trusted, addr) {
		return addr
	}
	for i := len(forwarded) - 1; i >= 0; i-- {
		line := forwarded[i]
		for line != "" {
			var item string
			if at := strings.LastIndexByte(line, ','); at >= 0 {
				line, item = line[:at], line[at+1:]
			} else {
				line, item = "", line
			}
			next, ok := forwardedAddr(item)
			if !ok {
				return addr // what a proxy could not have written ends the chain
			}
			addr = next
			if !contains(trusted, addr) {
				return addr
			}
		}
	}
	return addr
}

// peer reads host:port.
func peer(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		a, err := netip.ParseAddr(remote)
		if err != nil {
			return netip.Addr{}
		}
		return a.Unmap().WithZone("")
	}
	return ap.Addr().Unmap().WithZone("")
}

// forwardedAddr reads one item: an address, alone or with a port.
func forwardedAddr(item string) (netip.Addr, bool) {
	item = strings.TrimSpace(item)
	if a, err := netip.ParseAddr(strings.Trim(item, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(item); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// secure reports whether the client's own connection is encrypted.
func (s *Server) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	return contains(s.o.Config().Server.TrustedProxies, peer(r.RemoteAddr)) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}
