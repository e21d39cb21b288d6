package config

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// Key describes one key of the configuration.
type Key struct {
	Name   string // "relay.breaker.window"
	Env    string // "SLUICE_RELAY__BREAKER__WINDOW"
	Reload bool   // a running node takes a new value
	Secret bool   // has a _FILE twin and is never shown

	index    []int
	typ      reflect.Type
	size     bool
	min, max string
	oneof    []string
}

// Keys lists every key in the order of the struct.
func Keys() []Key {
	return appendKeys(nil, reflect.TypeFor[Config](), "", nil)
}

func appendKeys(out []Key, t reflect.Type, prefix string, index []int) []Key {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("key")
		if name == "" {
			continue
		}
		at := append(slices.Clone(index), i)
		if f.Type.Kind() == reflect.Struct {
			out = appendKeys(out, f.Type, prefix+name+".", at)
			continue
		}
		k := Key{
			Name: prefix + name, index: at, typ: f.Type,
			Env:    EnvPrefix + strings.ToUpper(strings.ReplaceAll(prefix+name, ".", nesting)),
			Reload: f.Tag.Get("reload") == "yes",
			Secret: f.Type == reflect.TypeFor[core.Secret]() || f.Type == reflect.TypeFor[[]core.Secret](),
			size:   f.Tag.Get("kind") == "size",
			min:    f.Tag.Get("min"), max: f.Tag.Get("max"),
		}
		if v := f.Tag.Get("oneof"); v != "" {
			k.oneof = strings.Split(v, "|")
		}
		if k.max == "" && f.Type == reflect.TypeFor[time.Duration]() {
			k.max = "87600h"
		}
		out = append(out, k)
	}
	return out
}

// schema is the key table by name.
type schema struct {
	keys     []Key
	byName   map[string]*Key
	sections map[string]bool
}

func newSchema() *schema {
	s := &schema{keys: Keys(), byName: map[string]*Key{}, sections: map[string]bool{}}
	for i := range s.keys {
		k := &s.keys[i]
		s.byName[k.Name] = k
		for p := k.Name; ; {
			at := strings.LastIndexByte(p, '.')
			if at < 0 {
				break
			}
			p = p[:at]
			s.sections[p] = true
		}
	}
	return s
}

// like names the known key nearest to name, for the error of an unknown one.
func (s *schema) like(name string) string {
	best, distance := "", 4
	if len(name) > 100 {
		return ""
	}
	consider := func(known string) {
		if d := editDistance(name, known, distance); d < distance {
			best, distance = known, d
		}
	}
	for i := range s.keys {
		consider(s.keys[i].Name)
	}
	for name := range s.sections {
		consider(name)
	}
	return best
}

// editDistance is Levenshtein's, cut off at limit.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j]+1, row[j+1]+1, diagonal)
			if a[i] != b[j] {
				next = min(row[j]+1, row[j+1]+1, diagonal+1)
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func (k *Key) field(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(k.index) }

func (k *Key) isList() bool { return k.typ.Kind() == reflect.Slice }
