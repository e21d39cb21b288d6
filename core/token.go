package core

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// TokenStatus is New API's number. Expired and exhausted are computed when a
// token is shown; only enabled and disabled are ever stored by this system.
type TokenStatus int

// The states of a token.
const (
	TokenEnabled   TokenStatus = 1
	TokenDisabled  TokenStatus = 2
	TokenExpired   TokenStatus = 3
	TokenExhausted TokenStatus = 4
)

// TokenKeyLength is the number of characters of a generated key, without "sk-".
const TokenKeyLength = 48

// GroupAuto lets the gateway walk option AutoGroups for the first group that
// has a channel for the model.
const GroupAuto = "auto"

// Token is a client's API key and what it may do. RemainQuota and UsedQuota are
// the ledger's (see User).
type Token struct {
	ID              int64
	UserID          int64
	KeyPreview      string // "abcd**********wxyz": first and last four characters
	Status          TokenStatus
	Name            string
	CreatedAt       time.Time
	AccessedAt      time.Time // zero = never; written with settlements
	ExpiresAt       time.Time // zero = never
	RemainQuota     int64
	UnlimitedQuota  bool
	UsedQuota       int64
	LimitModels     bool
	Models          []string // allowed models when LimitModels
	AllowIPs        []netip.Prefix
	Group           string // "" = the user's group; may be GroupAuto
	CrossGroupRetry bool
	Rev             Revision

	models map[string]struct{}
}

// Prepare builds the look-up tables. Call it once before the value is shared.
func (t *Token) Prepare() {
	t.models = make(map[string]struct{}, len(t.Models))
	for _, m := range t.Models {
		t.models[m] = struct{}{}
	}
}

// Expired reports whether the token's time is over.
func (t *Token) Expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }

// ShownStatus is the status with expiry and balance taken in.
func (t *Token) ShownStatus(now time.Time) TokenStatus {
	switch {
	case t.Status != TokenEnabled:
		return t.Status
	case t.Expired(now):
		return TokenExpired
	case !t.UnlimitedQuota && t.RemainQuota <= 0:
		return TokenExhausted
	}
	return TokenEnabled
}

// AllowsModel reports whether the token may use model.
func (t *Token) AllowsModel(model string) bool {
	if !t.LimitModels {
		return true
	}
	if t.models == nil {
		for _, m := range t.Models {
			if m == model {
				return true
			}
		}
		return false
	}
	_, ok := t.models[model]
	return ok
}

// AllowsIP reports whether the token may be used from addr. An empty list
// allows every address; an unknown address is allowed only by an empty list.
func (t *Token) AllowsIP(addr netip.Addr) bool {
	if len(t.AllowIPs) == 0 {
		return true
	}
	addr = addr.Unmap()
	for _, p := range t.AllowIPs {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// ParseAllowIPs reads New API's text: one IP or CIDR a line (commas and blanks
// part as well). Addresses become prefixes of full length.
func ParseAllowIPs(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == ',' || r == ' ' || r == '\t' }) {
		if strings.Contains(f, "/") {
			p, err := netip.ParsePrefix(f)
			if err != nil {
				return nil, fmt.Errorf("%q is not an IP address or CIDR range", f)
			}
			out = append(out, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-unmappedBits(p)).Masked())
			continue
		}
		a, err := netip.ParseAddr(f)
		if err != nil {
			return nil, fmt.Errorf("%q is not an IP address or CIDR range", f)
		}
		a = a.Unmap().WithZone("")
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out, nil
}

func unmappedBits(p netip.Prefix) int {
	if p.Addr().Is4In6() {
		return 96
	}
	return 0
}

// FormatAllowIPs is the inverse of ParseAllowIPs: one entry a line, single
// addresses without their length.
func FormatAllowIPs(list []netip.Prefix) string {
	lines := make([]string, len(list))
	for i, p := range list {
		lines[i] = p.String()
		if p.IsSingleIP() {
			lines[i] = p.Addr().String()
		}
	}
	return strings.Join(lines, "\n")
}

// Credential is a token with its owner, as authentication needs them. Both are
// immutable and shared.
type Credential struct {
	Token *Token
	User  *User
}
