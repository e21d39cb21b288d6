package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sluice-gateway/sluice/core"
)

// minSecret is the least length of a secret in characters.
const minSecret = 16

const makeSecret = "make one with: openssl rand -hex 32"

// finish fills what has no fixed default.
func (c *Config) finish() {
	if c.Node.Name == "" {
		c.Node.Name = hostname()
	}
	if c.Database.SQLitePath == "" {
		c.Database.SQLitePath = filepath.Join(c.Node.DataDir, "sluice.db")
	}
	c.Node.FrontendBaseURL = strings.TrimRight(c.Node.FrontendBaseURL, "/")
	if c.isDefault("server.body_budget") {
		c.Server.BodyBudget = max(c.Server.BodyBudget, c.Server.MaxRequestBody)
	}
}

func (c *Config) isDefault(key string) bool { return c.Origin(key).Source == SourceDefault }

// checker collects the problems of one configuration.
type checker struct {
	c        *Config
	problems Problems
}

func (k *checker) check(key string, err error) {
	if err != nil {
		k.problems = append(k.problems, Problem{Where: k.c.Origin(key), Key: key, Reason: err.Error()})
	}
}

func (k *checker) notice(key, text string) {
	k.c.notices = append(k.c.notices, Notice{key, text})
}

// validate applies the rules that need more than one key's own type, and
// normalises the DSNs.
func (c *Config) validate() Problems {
	k := &checker{c: c}
	k.server()
	k.database()
	k.secrets()
	k.node()
	for i, u := range c.Session.TrustedURLs {
		if err := checkOrigin(u); err != nil {
			k.check("session.trusted_urls", fmt.Errorf("entry %d: %w", i+1, err))
		}
	}
	if c.Log.Timezone != "" {
		_, err := LoadTimezone(c.Log.Timezone)
		k.check("log.timezone", err)
	}
	k.check("metrics.listen", checkListen(c.Metrics.Listen, true))
	k.pprof()
	return k.problems
}

func (k *checker) server() {
	s := k.c.Server
	k.check("server.listen", checkListen(s.Listen, false))
	for i, o := range s.CORSOrigins {
		if o != "*" {
			if err := checkOrigin(o); err != nil {
				k.check("server.cors_origins", fmt.Errorf("entry %d: %w", i+1, err))
			}
		}
	}
	if s.BodyBudget < s.MaxRequestBody {
		k.check("server.body_budget", fmt.Errorf("%s is less than server.max_request_body (%s), so that the largest request could never be taken",
			formatSize(s.BodyBudget), formatSize(s.MaxRequestBody)))
	}
	for _, other := range []struct{ key, listen string }{{"metrics.listen", k.c.Metrics.Listen}, {"pprof.listen", k.c.Pprof.Listen}} {
		if other.listen != "" && other.listen == s.Listen && !strings.HasSuffix(s.Listen, ":0") {
			k.check(other.key, errors.New("is the same address as server.listen"))
		}
	}
}

func (k *checker) database() {
	d := &k.c.Database
	path, err := sqlitePath(d.SQLitePath)
	k.check("database.sqlite_path", err)
	d.SQLitePath = path
	for _, f := range []struct {
		key string
		dsn *core.Secret
	}{{"database.dsn", &d.DSN}, {"database.log_dsn", &d.LogDSN}} {
		raw := f.dsn.Reveal()
		dsn, notes, err := NormalizeDSN(raw)
		if err == nil && f.dsn == &d.LogDSN && raw != "" && dsn == "" && d.MySQL() {
			err = errors.New("SQLite logs beside a MySQL main database are not supported: leave it empty to keep the logs in the main database")
		}
		k.check(f.key, err)
		for _, note := range notes {
			k.notice(f.key, note)
		}
		*f.dsn = core.Secret(dsn)
	}
}

func (k *checker) secrets() {
	s := k.c.Secrets
	for _, f := range []struct {
		key, env string
		value    core.Secret
	}{{"secrets.session", "SESSION_SECRET", s.Session}, {"secrets.crypto", "CRYPTO_SECRET", s.Crypto}} {
		if f.value == "" {
			if k.c.Database.MySQL() {
				k.check(f.key, fmt.Errorf("is not set. With MySQL it must be set, and be the same on all nodes: set %s (or %s_FILE); %s", f.env, f.env, makeSecret))
			}
			continue
		}
		k.check(f.key, checkSecret(f.value.Reveal()))
	}
	if s.Session != "" && s.Session == s.Crypto {
		k.notice("secrets.session", "SESSION_SECRET and CRYPTO_SECRET are the same value: use two, so that one can be changed without the other")
	}
	if s.Crypto != "" && slices.Contains(s.CryptoOld, s.Crypto) {
		k.check("secrets.crypto_old", errors.New("holds the current CRYPTO_SECRET: only earlier ones belong there"))
	}
	if slices.Contains(s.CryptoOld, "") {
		k.check("secrets.crypto_old", errors.New("holds an empty entry"))
	}
}

func checkSecret(s string) error {
	switch {
	case s == "random_string", strings.HasPrefix(s, "your_unique_"):
		return fmt.Errorf("%s is a placeholder that everyone knows: %s", quote(s), makeSecret)
	case len([]rune(s)) < minSecret:
		return fmt.Errorf("is shorter than %d characters: %s", minSecret, makeSecret)
	}
	return nil
}

func (k *checker) node() {
	n := k.c.Node
	if n.Role == core.NodeSlave && !k.c.Database.MySQL() {
		k.check("node.role", errors.New("a slave needs the database of its master: set SQL_DSN to the same MySQL on all nodes, or leave NODE_TYPE out for a single node on SQLite"))
	}
	if len(n.Name) > 128 || strings.ContainsFunc(n.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		k.check("node.name", errors.New("must be at most 128 bytes of printable characters"))
	}
	if len(n.Version) > 64 || strings.ContainsFunc(n.Version, func(r rune) bool { return !unicode.IsPrint(r) }) {
		k.check("node.version", errors.New("must be at most 64 bytes of printable characters"))
	}
	if strings.TrimSpace(n.DataDir) == "" {
		k.check("node.data_dir", errors.New("is empty"))
	}
	if n.FrontendBaseURL != "" {
		u, err := url.Parse(n.FrontendBaseURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			k.check("node.frontend_base_url", errors.New("is not an address such as https://your-domain.com"))
		}
	}
}

func (k *checker) pprof() {
	listen := k.c.Pprof.Listen
	if listen == "" {
		return
	}
	if err := checkListen(listen, true); err != nil {
		k.check("pprof.listen", err)
		return
	}
	host, _, _ := net.SplitHostPort(listen)
	if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
		k.check("pprof.listen", errors.New("must be a loopback address such as 127.0.0.1:8005: a profile shows secrets in memory"))
	}
}

func checkListen(listen string, empty bool) error {
	if listen == "" && empty {
		return nil
	}
	_, p, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("%s is not of the form host:port or :port", quote(listen))
	}
	if _, err := strconv.ParseUint(p, 10, 16); err != nil {
		return fmt.Errorf("%s has no port number", quote(listen))
	}
	return nil
}

// checkOrigin accepts an exact origin: https, or http on this machine.
func checkOrigin(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, "?#") {
		return fmt.Errorf("%s is not an origin such as https://your-domain.com", quote(text))
	}
	if strings.Contains(u.Host, "*") {
		return fmt.Errorf("%s has a wildcard: origins are exact", quote(text))
	}
	local := u.Hostname() == "localhost"
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		local = addr.IsLoopback()
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return fmt.Errorf("%s must begin with https://", quote(text))
	}
	return nil
}

// LoadTimezone finds the zone of log.timezone. "" and an absolute path (which TZ
// may be, and which the Go runtime has read already) are the system's zone.
func LoadTimezone(name string) (*time.Location, error) {
	name = strings.TrimPrefix(name, ":")
	if name == "" || filepath.IsAbs(name) {
		return time.Local, nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%s is not a time zone such as Asia/Shanghai or UTC", quote(name))
	}
	return loc, nil
}
