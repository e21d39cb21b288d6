package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// A leaf is a value before it is typed, as koanf keeps it: a string, or a
// []string for a list.

// parse makes the typed value of a leaf and applies the key's own rules. The
// error is a reason without key or place, and never shows a secret.
func (k *Key) parse(leaf any) (reflect.Value, error) {
	out := reflect.New(k.typ).Elem()
	if list, ok := leaf.([]string); ok {
		if !k.isList() {
			return out, errors.New("is a list, but must be a single value")
		}
		return out, setList(out, list)
	}
	text, ok := leaf.(string)
	if !ok {
		return out, fmt.Errorf("unexpected type %T", leaf)
	}
	if k.isList() {
		return out, setList(out, splitList(text))
	}
	if err := k.setScalar(out, text); err != nil {
		return out, err
	}
	return out, k.check(out)
}

func splitList(text string) []string {
	var out []string
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}

func setList(out reflect.Value, list []string) error {
	if len(list) == 0 {
		return nil
	}
	switch p := out.Addr().Interface().(type) {
	case *[]string:
		*p = slices.Clone(list)
	case *[]core.Secret:
		for _, s := range list {
			*p = append(*p, core.Secret(s))
		}
	case *[]netip.Prefix:
		if len(list) == 1 && strings.EqualFold(list[0], "none") {
			return nil
		}
		for _, s := range list {
			prefixes, err := core.ParseAllowIPs(s)
			if err != nil {
				return fmt.Errorf("%s is not an IP address or CIDR range", quote(s))
			}
			*p = append(*p, prefixes...)
		}
	default:
		return fmt.Errorf("unexpected type %s", out.Type())
	}
	return nil
}

func (k *Key) setScalar(out reflect.Value, text string) error {
	switch p := out.Addr().Interface().(type) {
	case *core.Secret:
		*p = core.Secret(text)
		return nil
	case *time.Duration:
		d, err := parseDuration(text)
		*p = d
		return err
	case *slog.Level:
		l, err := parseLevel(text)
		*p = l
		return err
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%s is not true or false", quote(text))
		}
		*p = b
		return nil
	}
	switch out.Kind() {
	case reflect.String:
		out.SetString(text)
		return nil
	case reflect.Int, reflect.Int64:
		n, err := k.parseInt(text)
		if err == nil {
			out.SetInt(n)
		}
		return err
	}
	return fmt.Errorf("unexpected type %s", out.Type())
}

func (k *Key) parseInt(text string) (int64, error) {
	if k.size {
		return parseSize(text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is not a whole number", quote(text))
	}
	return n, nil
}

func (k *Key) check(v reflect.Value) error {
	if len(k.oneof) > 0 {
		if !slices.Contains(k.oneof, v.String()) {
			return fmt.Errorf("%s is not one of %s", quote(v.String()), strings.Join(k.oneof, ", "))
		}
		return nil
	}
	if v.Kind() != reflect.Int && v.Kind() != reflect.Int64 {
		return nil
	}
	for _, rule := range []struct {
		limit, words string
		broken       func(v, limit int64) bool
	}{
		{k.min, "is less than", func(v, l int64) bool { return v < l }},
		{k.max, "is more than", func(v, l int64) bool { return v > l }},
	} {
		if rule.limit == "" {
			continue
		}
		limit := reflect.New(k.typ).Elem()
		if err := k.setScalar(limit, rule.limit); err != nil {
			return fmt.Errorf("rule of %s: %w", k.Name, err)
		}
		if rule.broken(v.Int(), limit.Int()) {
			return fmt.Errorf("%s %s %s", k.leaf(v), rule.words, rule.limit)
		}
	}
	return nil
}

// leaf is the inverse of parse.
func (k *Key) leaf(v reflect.Value) any {
	switch p := v.Interface().(type) {
	case core.Secret:
		return p.Reveal()
	case []core.Secret:
		list := make([]string, len(p))
		for i, s := range p {
			list[i] = s.Reveal()
		}
		return list
	case []string:
		return append([]string{}, p...)
	case []netip.Prefix:
		list := make([]string, len(p))
		for i, n := range p {
			list[i] = n.String()
		}
		return list
	case time.Duration:
		return formatDuration(p)
	case slog.Level:
		return strings.ToLower(p.String())
	case bool:
		return strconv.FormatBool(p)
	}
	if v.Kind() == reflect.String {
		return v.String()
	}
	if k.size {
		return formatSize(v.Int())
	}
	return strconv.FormatInt(v.Int(), 10)
}

// quote shows a value in an error, bounded.
func quote(text string) string {
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	return strconv.Quote(text)
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		return 0, fmt.Errorf("%s has no unit: write for example %ss or %sm", quote(text), text, text)
	}
	return 0, fmt.Errorf("%s is not a duration such as 500ms, 30s, 5m or 2h", quote(text))
}

// formatDuration is Duration.String without the zeros at its end.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func parseLevel(text string) (slog.Level, error) {
	switch strings.ToLower(text) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%s is not one of debug, info, warn, error", quote(text))
}

func sizeUnits() []struct {
	name  string
	shift int
} {
	return []struct {
		name  string
		shift int
	}{{"GIB", 30}, {"MIB", 20}, {"KIB", 10}, {"GB", 30}, {"MB", 20}, {"KB", 10}, {"B", 0}, {"", 0}}
}

// maxSize bounds every size, so that sums of them cannot overflow.
const maxSize = 1 << 50

// parseSize reads a number of bytes. KB, MB and GB are powers of 1024, as New
// API's variables count.
func parseSize(text string) (int64, error) {
	upper := strings.ToUpper(strings.TrimSpace(text))
	for _, u := range sizeUnits() {
		number, ok := strings.CutSuffix(upper, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil {
			break
		}
		if n < 0 || n > maxSize>>u.shift {
			return 0, fmt.Errorf("%s is out of range", quote(text))
		}
		return n << u.shift, nil
	}
	return 0, fmt.Errorf("%s is not a size such as 512KB, 128MB or 1GB", quote(text))
}

func formatSize(n int64) string {
	for _, u := range []struct {
		name  string
		shift int
	}{{"GB", 30}, {"MB", 20}, {"KB", 10}} {
		if n != 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}
