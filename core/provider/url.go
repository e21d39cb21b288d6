package provider

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/sluice-gateway/sluice/core"
)

// base is a base URL in parts. path is escaped and has no trailing slash.
type base struct {
	scheme, host, path string
}

// parseBase reads a base URL: http or https, a host in ASCII, an optional path.
// Anything that a base URL does not need is refused rather than dropped.
func parseBase(text string) (base, error) {
	if strings.ContainsAny(text, "?#") {
		return base{}, fmt.Errorf("a base URL has no query and no fragment")
	}
	b, _, err := parseURL(text)
	if err != nil {
		return base{}, err
	}
	b.path = strings.TrimRight(b.path, "/")
	return b, nil
}

func parseURL(text string) (b base, query string, err error) {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] >= 0x7f {
			return base{}, "", fmt.Errorf("a URL is written in printable ASCII (a host name in its xn-- form)")
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return base{}, "", fmt.Errorf("not a URL") // the parser's text would repeat the URL
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return base{}, "", fmt.Errorf("a URL begins with http:// or https://")
	case u.User != nil:
		return base{}, "", fmt.Errorf("credentials do not belong into a URL")
	case u.Fragment != "":
		return base{}, "", fmt.Errorf("a base URL has no fragment")
	}
	if err := checkHost(u); err != nil {
		return base{}, "", err
	}
	return base{u.Scheme, u.Host, u.EscapedPath()}, u.RawQuery, nil
}

func checkHost(u *url.URL) error {
	name := u.Hostname()
	if name == "" {
		return fmt.Errorf("the host is missing")
	}
	if strings.HasPrefix(u.Host, "[") {
		a, err := netip.ParseAddr(name)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("the host is no IPv6 address without a zone")
		}
	} else {
		for _, c := range []byte(name) {
			if !isAlnum(c) && c != '.' && c != '-' && c != '_' {
				return fmt.Errorf("the host has a character that no host has")
			}
		}
	}
	if p := u.Port(); p != "" && (len(p) > 5 || p == "0" || p > "65535" && len(p) == 5) {
		return fmt.Errorf("the port is not in 1..65535")
	}
	if strings.HasSuffix(u.Host, ":") {
		return fmt.Errorf("the port is missing")
	}
	return nil
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// plainWord reports whether s can stand in a path or query as it is.
func plainWord(s string) bool {
	if s == "" || strings.Trim(s, ".") == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '.' && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return true
}

// template is text with places for {model} and {other}.
type template []part

type part struct {
	text  string
	place byte // 'm', 'o', or 0 for text
}

func parseTemplate(text string) (template, error) {
	var t template
	for text != "" {
		lit, rest, found := strings.Cut(text, "{")
		if lit != "" {
			t = append(t, part{text: lit})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		switch {
		case closed && name == "model":
			t = append(t, part{place: 'm'})
		case closed && name == "other":
			t = append(t, part{place: 'o'})
		default:
			return nil, fmt.Errorf("%q: only {model} and {other} are known", "{"+name)
		}
		text = after
	}
	return t, nil
}

func parsePath(text string) (template, error) {
	if text == "" {
		return nil, nil
	}
	if !strings.HasPrefix(text, "/") || strings.HasSuffix(text, "/") || strings.Contains(text, "//") {
		return nil, fmt.Errorf("%q: a path begins with a slash and does not end with one", text)
	}
	t, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	for _, p := range t {
		for i := range len(p.text) {
			if !isAlnum(p.text[i]) && !strings.ContainsRune("/._-:", rune(p.text[i])) {
				return nil, fmt.Errorf("%q: %q does not belong into a path", text, p.text[i])
			}
		}
	}
	return t, nil
}

func parseQuery(text string) (template, error) {
	t, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	for _, p := range t {
		for i := range len(p.text) {
			if !isAlnum(p.text[i]) && !strings.ContainsRune("=&._-", rune(p.text[i])) {
				return nil, fmt.Errorf("%q: %q does not belong into a query", text, p.text[i])
			}
		}
	}
	return t, nil
}

// render appends the template with its places filled; both values are escaped already.
func (t template) render(b *strings.Builder, model, other string) {
	for _, p := range t {
		switch p.place {
		case 'm':
			b.WriteString(model)
		case 'o':
			b.WriteString(other)
		default:
			b.WriteString(p.text)
		}
	}
}

func (t template) has(place byte) bool {
	for _, p := range t {
		if p.place == place {
			return true
		}
	}
	return false
}

// checkModel refuses model names that could lead to another path of upstream,
// where the channel's key would be shown.
func checkModel(model string) error {
	if model == "" {
		return core.Errorf(core.CodeInvalidRequest, "the model name is empty")
	}
	for i := range len(model) {
		if model[i] < ' ' || model[i] == 0x7f {
			return core.Errorf(core.CodeInvalidRequest, "the model name has a control character")
		}
	}
	if strings.Contains(model, "..") || strings.Contains(model, "./") || strings.ContainsRune(model, '\\') || model == "." || strings.HasSuffix(model, "/.") {
		return core.Errorf(core.CodeInvalidRequest, "the model name looks like a path")
	}
	return nil
}

// version is a path segment such as v1 or v1beta.
func version(seg string) bool {
	return len(seg) > 1 && seg[0] == 'v' && '0' <= seg[1] && seg[1] <= '9'
}

// url builds the upstream URL of a target. A base URL that already ends in the
// version with which the path begins (https://host/v1 with /v1/chat/completions)
// gives it once: no vendor has a version inside the same version, and people
// paste base URLs both ways.
func (p *prepared) url(t *target, model, rawQuery string) (*url.URL, error) {
	if p.full != nil {
		return p.fullURL(model)
	}
	other := p.other
	if other == "" && (t.path.has('o') || t.suffix.has('o') || t.query.has('o')) {
		return nil, core.Errorf(core.CodeChannelConfig, "channel #%d: other is empty; this provider needs it in the URL", p.id)
	}
	escModel := ""
	if t.path.has('m') || t.suffix.has('m') {
		if err := checkModel(model); err != nil {
			return nil, err
		}
		escModel = url.PathEscape(model)
	}
	b := p.base
	var path strings.Builder
	path.Grow(len(b.path) + 64 + len(escModel))
	if p.plan != nil {
		var ok bool
		if b, ok = p.plan[t.format]; !ok {
			return nil, core.Errorf(core.CodeChannelConfig, "channel #%d: the plan named as its base URL does not offer format %s", p.id, t.format)
		}
		path.WriteString(b.path)
	} else {
		path.WriteString(b.path)
		t.path.render(&path, escModel, other)
	}
	if p.plan != nil && t.list {
		path.WriteString("/models")
	} else {
		t.suffix.render(&path, escModel, other)
	}
	esc := path.String()
	if n := len(b.path); n > 0 && p.plan == nil {
		seg, _, _ := strings.Cut(esc[n+1:], "/")
		if version(seg) && strings.HasSuffix(b.path, "/"+seg) {
			esc = b.path + esc[n+1+len(seg):]
		}
	}
	u := &url.URL{Scheme: b.scheme, Host: b.host, Path: esc}
	if err := setPath(u, esc); err != nil {
		return nil, core.WrapError(core.CodeChannelConfig, err, "channel #%d: the URL does not form a path", p.id)
	}
	var own string
	if t.query != nil {
		var q strings.Builder
		t.query.render(&q, url.QueryEscape(model), url.QueryEscape(other))
		own = q.String()
	}
	u.RawQuery = joinQuery(own, rawQuery)
	return u, nil
}

// setPath sets the escaped path; most hold no escape and need no second form.
func setPath(u *url.URL, esc string) error {
	if strings.IndexByte(esc, '%') < 0 {
		u.Path = esc
		return nil
	}
	plain, err := url.PathUnescape(esc)
	if err != nil {
		return err
	}
	u.Path, u.RawPath = plain, esc
	return nil
}

// fullURL fills {model} into a channel's own URL.
func (p *prepared) fullURL(model string) (*url.URL, error) {
	u := &url.URL{Scheme: p.base.scheme, Host: p.base.host}
	if !p.full.model {
		u.RawQuery = p.full.query
		return u, setPath(u, p.full.path)
	}
	if err := checkModel(model); err != nil {
		return nil, err
	}
	u.RawQuery = strings.ReplaceAll(p.full.query, modelMark, url.QueryEscape(model))
	return u, setPath(u, strings.ReplaceAll(p.full.path, modelMark, url.PathEscape(model)))
}

// modelMark stands for {model} while a full URL is parsed: it needs no escape.
const modelMark = "-sluice-model-mark-"

type fullTarget struct {
	path, query string
	model       bool
}

func parseFull(text string) (base, *fullTarget, error) {
	marked := strings.ReplaceAll(text, "{model}", modelMark)
	b, query, err := parseURL(marked)
	if err != nil {
		return base{}, nil, err
	}
	if strings.Contains(b.host, modelMark) {
		return base{}, nil, fmt.Errorf("{model} must not stand in the host")
	}
	return b, &fullTarget{path: b.path, query: query, model: marked != text}, nil
}

// joinQuery puts the client's parameters behind the row's own. The client's key
// never passes, nor does a parameter that the row sets itself, one that changes
// the shape of the answer, or anything that two parsers might read differently.
func joinQuery(own, client string) string {
	if client == "" {
		return own
	}
	var b strings.Builder
	b.WriteString(own)
	for pair := range strings.SplitSeq(client, "&") {
		rawName, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil || name == "" || withheld(name, value) || !cleanQuery(pair) || hasParam(own, name) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(pair)
	}
	return b.String()
}

// withheld are Google's parameters for every method that are not the client's to
// say: credentials, and what takes the usage out of an answer (a mask of fields,
// another encoding than JSON).
func withheld(name, value string) bool {
	switch strings.ToLower(strings.TrimPrefix(name, "$")) {
	case "key", "access_token", "oauth_token", "fields", "callback":
		return true
	case "alt":
		return value != "sse" && value != "json"
	}
	return false
}

func cleanQuery(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' || c == ';' {
			return false
		}
	}
	return true
}

func hasParam(query, name string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		n, _, _ := strings.Cut(pair, "=")
		if n == name && n != "" {
			return true
		}
	}
	return false
}
