package config

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Entry is one effective value for display.
type Entry struct {
	Key    Key
	Value  string // as YAML; a secret is redacted
	Origin Origin
}

// Entries lists every key with its effective value and origin. No secret is in
// it.
func (c *Config) Entries() []Entry {
	var out []Entry
	for _, k := range Keys() {
		e := Entry{Key: k, Origin: c.Origin(k.Name)}
		switch leaf := k.leaf(k.field(c)).(type) {
		case []string:
			if k.Secret {
				for i := range leaf {
					leaf[i] = "[redacted]"
				}
			}
			e.Value = yamlList(leaf)
		case string:
			if k.Secret && leaf != "" {
				leaf = "[redacted]"
			}
			e.Value = k.yamlScalar(leaf)
		}
		out = append(out, e)
	}
	return out
}

func (k *Key) yamlScalar(text string) string {
	if k.typ.Kind() == reflect.String && len(k.oneof) == 0 {
		return strconv.Quote(text)
	}
	return text
}

func yamlList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// Print writes the effective configuration as YAML, the origin of each value as
// a comment, and the notices after it.
func (c *Config) Print(w io.Writer) error {
	b := bufio.NewWriter(w)
	var section []string
	for _, e := range c.Entries() {
		parts := strings.Split(e.Key.Name, ".")
		path, name := parts[:len(parts)-1], parts[len(parts)-1]
		for depth, part := range path {
			if depth < len(section) && section[depth] == part {
				continue
			}
			section = append(section[:min(depth, len(section))], part)
			fmt.Fprintf(b, "%s%s:\n", strings.Repeat("  ", depth), part)
		}
		section = section[:len(path)]
		fmt.Fprintf(b, "%-50s # %s\n", strings.Repeat("  ", len(path))+name+": "+e.Value, comment(e.Origin.String()))
	}
	if len(c.notices) > 0 {
		fmt.Fprintln(b, "\n# Notices:")
		for _, n := range c.notices {
			fmt.Fprintf(b, "# %s\n", comment(n.String()))
		}
	}
	return b.Flush()
}

// comment makes a text fit for one line: names of variables and files are the
// machine's.
func comment(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		quoted := strconv.QuoteToASCII(text)
		return quoted[1 : len(quoted)-1]
	}
	return text
}
