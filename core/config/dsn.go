package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

const dsnForm = "user:password@tcp(host:3306)/database"

// dsnParam is a parameter that a MySQL DSN gets when it has none of that name.
// A fixed one replaces what was there, since the store is wrong without it.
type dsnParam struct {
	name, value string
	fixed       bool
}

func dsnParams() []dsnParam {
	return []dsnParam{
		{"parseTime", "true", true},
		{"loc", "UTC", true},
		{"time_zone", url.QueryEscape("'+00:00'"), true},
		{"clientFoundRows", "true", true}, // guards stand in WHERE: matched rows are counted, as SQLite does
		{"charset", "utf8mb4", true},
		{"collation", "utf8mb4_general_ci", false}, // exists on MariaDB and MySQL
		{"multiStatements", "false", true},
		{"allowAllFiles", "false", true}, // a hostile server could ask for files
		{"interpolateParams", "true", false},
		{"timeout", "2s", false},
		{"readTimeout", "10s", false},
		{"writeTimeout", "5s", false},
		{"rejectReadOnly", "true", false}, // a failed-over server's old connections are dropped
	}
}

// NormalizeDSN reads SQL_DSN: "" and New API's "local…" become "" (SQLite); a
// go-sql-driver DSN comes back with the parameters that the store needs, and
// with notes on given ones that were replaced. Anything else is refused. The
// result is a fixed point, and no error or note shows any part of the DSN but
// parameter names.
func NormalizeDSN(raw string) (dsn string, notes []string, err error) {
	raw = strings.TrimSpace(raw)
	if raw == "" || strings.HasPrefix(raw, "local") {
		return "", nil, nil
	}
	if err := refuseOtherDatabases(raw); err != nil {
		return "", nil, err
	}
	slash := strings.LastIndexByte(raw, '/')
	if slash < 0 {
		return "", nil, errors.New("has no / before the database name: write " + dsnForm)
	}
	head, query := raw, ""
	if at := strings.IndexByte(raw[slash:], '?'); at >= 0 {
		head, query = raw[:slash+at], raw[slash+at+1:]
	}
	if len(head) == slash+1 {
		return "", nil, errors.New("names no database after the last /: write " + dsnForm)
	}
	params, notes, err := mergeDSNParams(query)
	if err != nil {
		return "", nil, err
	}
	dsn = head + "?" + params
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return "", nil, errors.New("is not of the form " + dsnForm + "?param=value (a / in a parameter's value is written %2F)")
	}
	if cfg.Net != "tcp" && cfg.Net != "unix" {
		return "", nil, errors.New("must reach the server by tcp(host:port) or unix(/path): write " + dsnForm)
	}
	return dsn, notes, nil
}

func refuseOtherDatabases(raw string) error {
	scheme, _, ok := strings.Cut(raw, "://")
	if !ok || strings.ContainsAny(scheme, "@:(/") {
		return nil
	}
	switch strings.ToLower(scheme) {
	case "postgres", "postgresql":
		return errors.New("PostgreSQL is not supported: use MySQL or MariaDB (" + dsnForm + "), or leave it empty for SQLite")
	case "clickhouse", "tcp", "http", "https":
		return errors.New("ClickHouse is not supported: use MySQL or MariaDB (" + dsnForm + ")")
	case "mysql", "mariadb":
		return errors.New("is a URL: write it as " + dsnForm)
	}
	return errors.New("is a URL of an unknown database: write " + dsnForm)
}

// mergeDSNParams keeps the given parameters in their order and adds the missing.
func mergeDSNParams(query string) (merged string, notes []string, err error) {
	wanted := dsnParams()
	var kept []string
	seen := map[string]bool{}
	for part := range strings.SplitSeq(query, "&") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || name == "" {
			if part != "" {
				return "", nil, errors.New("has a parameter that is not of the form name=value")
			}
			continue
		}
		if seen[name] {
			return "", nil, fmt.Errorf("has the parameter %s twice", quote(name))
		}
		seen[name] = true
		if err := checkDSNParam(name, value); err != nil {
			return "", nil, err
		}
		at := slices.IndexFunc(wanted, func(p dsnParam) bool { return p.name == name })
		if at >= 0 && wanted[at].fixed && !sameDSNValue(value, wanted[at].value) {
			notes = append(notes, fmt.Sprintf("its parameter %s is replaced by %s=%s", name, name, wanted[at].value))
		}
		if at >= 0 && wanted[at].fixed {
			value = wanted[at].value
		}
		kept = append(kept, name+"="+value)
	}
	for _, p := range wanted {
		if !seen[p.name] {
			kept = append(kept, p.name+"="+p.value)
		}
	}
	return strings.Join(kept, "&"), notes, nil
}

// checkDSNParam refuses one parameter that the driver would refuse (or, for
// "strict", panic on), so that the error can name it.
func checkDSNParam(name, value string) error {
	if name == "strict" {
		return errors.New(`has the parameter "strict", which the driver no longer knows: remove it`)
	}
	if strings.ContainsAny(name, "/?@()") {
		return errors.New("has a parameter whose name holds one of / ? @ ( )")
	}
	cfg, err := mysql.ParseDSN("/x?" + name + "=" + value)
	if err != nil {
		return fmt.Errorf("its parameter %s has a value that the driver does not take", quote(name))
	}
	if cfg.Timeout < 0 || cfg.ReadTimeout < 0 || cfg.WriteTimeout < 0 || cfg.Timeout > time.Hour || cfg.ReadTimeout > 24*time.Hour || cfg.WriteTimeout > 24*time.Hour {
		return fmt.Errorf("its parameter %s is out of range", quote(name))
	}
	if name == "collation" && !strings.HasPrefix(value, "utf8mb4_") {
		return errors.New("its parameter collation must be one of utf8mb4")
	}
	return nil
}

func sameDSNValue(a, b string) bool {
	if a == "1" {
		a = "true"
	}
	if a == "0" {
		a = "false"
	}
	ua, errA := url.QueryUnescape(a)
	ub, errB := url.QueryUnescape(b)
	return errA == nil && errB == nil && strings.EqualFold(ua, ub)
}

// sqlitePath reads SQLITE_PATH, which in New API carries driver parameters.
func sqlitePath(raw string) (string, error) {
	path, _, _ := strings.Cut(strings.TrimSpace(raw), "?")
	path = strings.TrimPrefix(path, "file:")
	if path == "" {
		return "", errors.New("names no file")
	}
	if strings.Contains(path, ":memory:") {
		return "", errors.New("must be a file: an in-memory database would lose everything at the end")
	}
	return path, nil
}
