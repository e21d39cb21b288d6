package provider

import (
	"fmt"
	"net/http"
	"net/textproto"
	"regexp"
	"sort"
	"strings"
)

// never are the client's headers that do not reach upstream, whatever a channel
// asks for: those of the connection, those that describe a body which was
// decoded, those that say who the client is, its credentials for this gateway, and
// the mask that takes the usage out of Google's answers.
var never = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Trailers": true, "Transfer-Encoding": true,
	"Upgrade": true, "Expect": true, "Http2-Settings": true,
	"Host": true, "Content-Length": true, "Content-Encoding": true, "Content-Type": true, "Accept-Encoding": true,
	"Authorization": true, "Cookie": true, "Cookie2": true, "Set-Cookie": true,
	"X-Api-Key": true, "X-Goog-Api-Key": true, "Api-Key": true, "Mj-Api-Secret": true, "New-Api-User": true, "X-Goog-Fieldmask": true,
	"Forwarded": true, "Via": true, "X-Real-Ip": true, "X-Client-Ip": true, "X-Cluster-Client-Ip": true, "True-Client-Ip": true,
	"Cf-Connecting-Ip": true, "Cf-Connecting-Ipv6": true, "Fastly-Client-Ip": true, "Fly-Client-Ip": true, "X-Original-Forwarded-For": true,
}

// forbidden reports whether a client's header (canonical name) never passes.
func forbidden(name string) bool {
	return never[name] || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Proxy-") ||
		strings.HasPrefix(name, "Sec-Websocket-") || strings.HasPrefix(name, "X-Sluice-")
}

// connectionOwned are the names that an operator's header_override cannot set
// either: the transport writes them, or the relay could not read the answer.
func connectionOwned(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Http2-Settings", "Content-Length", "Accept-Encoding":
		return true
	}
	return strings.HasPrefix(name, "Proxy-")
}

// canonical is the canonical form of a header name, "" if it is none.
func canonical(name string) string {
	if name == "" || len(name) > 256 {
		return ""
	}
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return ""
		}
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// validValue reports whether s can be sent as a header's value.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// overrides are a channel's header_override, read once.
type overrides struct {
	all   bool             // "*"
	match []*regexp.Regexp // "re:…", "regex:…"
	set   []override
}

type override struct {
	name   string // canonical
	value  string // "" = the header is not sent
	client string // canonical name of the client's header whose value is taken
	key    bool   // value holds {api_key}
}

const (
	maxOverrides = 256
	maxRegexp    = 1024
)

// parseOverrides reads header_override. Keys: a name, "*" (every header of the
// client that may pass), "re:…" or "regex:…" (those whose name matches, in any
// letter case). A value may hold {api_key} or be exactly {client_header:Name};
// an empty value keeps the header from being sent. Names that belong to the
// connection are left out, as they have always been without effect.
func parseOverrides(m map[string]string) (overrides, error) {
	var o overrides
	if len(m) > maxOverrides {
		return o, fmt.Errorf("more than %d entries", maxOverrides)
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		value := m[k]
		if k == "*" {
			o.all = true
			continue
		}
		if expr, ok := cutAny(k, "re:", "regex:"); ok {
			if len(expr) > maxRegexp {
				return o, fmt.Errorf("%q: the expression is longer than %d bytes", k[:32]+"…", maxRegexp)
			}
			re, err := regexp.Compile("(?i)(?:" + expr + ")")
			if err != nil {
				return o, fmt.Errorf("%q: %w", k, err)
			}
			o.match = append(o.match, re)
			continue
		}
		name := canonical(k)
		if name == "" {
			return o, fmt.Errorf("%q is no header name", k)
		}
		if connectionOwned(name) {
			continue
		}
		e := override{name: name, value: value}
		if rest, ok := strings.CutPrefix(value, "{client_header:"); ok && strings.HasSuffix(rest, "}") {
			from := canonical(strings.TrimSpace(strings.TrimSuffix(rest, "}")))
			if from == "" || from != "Content-Type" && forbidden(from) {
				return o, fmt.Errorf("%q: %s cannot be taken from the client", k, value)
			}
			e.client, e.value = from, ""
		} else {
			if !validValue(value) {
				return o, fmt.Errorf("%q: the value has a control character", k)
			}
			e.key = strings.Contains(value, "{api_key}")
		}
		o.set = append(o.set, e)
	}
	return o, nil
}

func cutAny(s string, prefixes ...string) (string, bool) {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(s, p); ok {
			return rest, true
		}
	}
	return "", false
}

// passes reports whether a client's header is wanted: by the vendor's list
// (a trailing * is a prefix) or by the channel.
func (o *overrides) passes(name string, forward []string) bool {
	if o.all {
		return true
	}
	for _, f := range forward {
		if prefix, ok := strings.CutSuffix(f, "*"); ok {
			if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
				return true
			}
		} else if strings.EqualFold(name, f) {
			return true
		}
	}
	for _, re := range o.match {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}

// connectionListed are the header names that the client's Connection header
// makes a matter of that one connection.
func connectionListed(h http.Header) []string {
	var out []string
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			if name == "" || strings.EqualFold(name, "keep-alive") || strings.EqualFold(name, "close") {
				continue
			}
			out = append(out, textproto.CanonicalMIMEHeaderKey(name))
		}
	}
	return out
}

// copyClient copies the client's headers that pass.
func (o *overrides) copyClient(to, from http.Header, forward []string) {
	if len(from) == 0 || len(forward) == 0 && !o.all && len(o.match) == 0 {
		return
	}
	listed := connectionListed(from)
next:
	for name, values := range from {
		if len(values) == 0 || !o.passes(name, forward) {
			continue
		}
		name := canonical(name)
		if name == "" || forbidden(name) {
			continue
		}
		for _, l := range listed {
			if l == name {
				continue next
			}
		}
		for _, v := range values {
			if !validValue(v) {
				continue next
			}
		}
		to[name] = values
	}
}

// apply sets the operator's own headers; they are the last word.
func (o *overrides) apply(req *http.Request, client http.Header, key string) {
	var listed []string
	for i, e := range o.set {
		value := e.value
		switch {
		case e.client != "":
			if i == 0 || listed == nil {
				listed = connectionListed(client)
			}
			value = ""
			if vs := client[e.client]; len(vs) > 0 && validValue(vs[0]) && !contains(listed, e.client) {
				value = vs[0]
			}
			if value == "" {
				continue // the client sent none: what is set already stays
			}
		case e.key:
			value = strings.ReplaceAll(value, "{api_key}", key)
		}
		if e.name == "Host" {
			if validHost(value) {
				req.Host = value
			}
			continue
		}
		if value == "" {
			delete(req.Header, e.name)
			if e.name == "User-Agent" {
				req.Header["User-Agent"] = []string{""} // an absent one would be net/http's
			}
			continue
		}
		req.Header[e.name] = []string{value}
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func validHost(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && !strings.ContainsRune(".-_:[]", rune(c)) {
			return false
		}
	}
	return true
}
