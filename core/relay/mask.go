package relay

import (
	"net/netip"
	"regexp"
	"strings"
)

// What an upstream's message must not tell a client: where the upstream is, and
// with which account it was called.
var (
	maskURL    = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]{1,9}://[^\s"'<>\\)\]]+`)
	maskKey    = regexp.MustCompile(`(?i)\b(?:(?:sk|pk|rk|gsk|xai|tgp|nvapi|pplx|hf|r8|csk|fw|ak)[-_][a-z0-9_\-*.]{6,}|AIza[a-z0-9_\-*]{6,}|(?:org|proj|acct|req_org)[-_][a-z0-9]{6,}|bearer\s+[a-z0-9._\-*]{6,})`)
	maskIPv4   = regexp.MustCompile(`\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b`)
	maskIPv6   = regexp.MustCompile(`(?i)\[?(?:[0-9a-f]{0,4}:){2,7}[0-9a-f.]{0,15}(?:%[a-z0-9]+)?\]?(?::\d{1,5})?`)
	maskDomain = regexp.MustCompile(`(?i)\b(?:[a-z0-9](?:[a-z0-9-]{0,62})\.)+(?:com|net|org|io|ai|cn|dev|cloud|app|co|us|eu|jp|hk|sg|top|xyz|local|internal|lan|svc)\b(?::\d{1,5})?(?:/[^\s"'<>]*)?`)
)

const maxMessage = 4 << 10

// mask removes URLs, addresses, host names and keys from an upstream's message,
// and secret, which may be several lines, wherever it stands.
func mask(msg, secret string) string {
	if len(msg) > maxMessage {
		msg = strings.ToValidUTF8(msg[:maxMessage], "") + "…"
	}
	msg = hideKeys(msg, secret)
	msg = maskURL.ReplaceAllString(msg, "[url]")
	msg = maskKey.ReplaceAllString(msg, "[key]")
	msg = maskIPv4.ReplaceAllString(msg, "[address]")
	msg = maskIPv6.ReplaceAllStringFunc(msg, func(s string) string {
		host := strings.Trim(s, "[]")
		if i := strings.LastIndex(s, "]:"); i > 0 {
			host = strings.TrimPrefix(s[:i], "[")
		}
		if _, err := netip.ParseAddr(host); err != nil {
			return s
		}
		return "[address]"
	})
	msg = maskDomain.ReplaceAllString(msg, "[host]")
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, msg)
}

// hideKeys takes a channel's keys, one a line, out of a text.
func hideKeys(msg, secret string) string {
	for line := range strings.SplitSeq(secret, "\n") {
		if line = strings.TrimSpace(line); len(line) >= 4 {
			msg = strings.ReplaceAll(msg, line, "[key]")
		}
	}
	return msg
}
