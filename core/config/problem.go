package config

import (
	"cmp"
	"slices"
	"strings"
)

// Problem is one fault of a configuration: where it stands, which key it is
// about and what is wrong with it.
type Problem struct {
	Where  Origin
	Key    string // "" when the fault has no key
	Reason string
}

// Error is "place: key: reason".
func (p Problem) Error() string {
	var parts []string
	if p.Where.Source != "" && p.Where.Source != SourceDefault {
		parts = append(parts, p.Where.String())
	}
	if p.Key != "" {
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.Reason), ": ")
}

// Problems is the error of Load: everything that is wrong, not only the first.
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// with adds what the rules between keys found. Where there are faults already,
// a rule about a default may only echo them and is left out. Faults of a file
// come first, in the order of its lines.
func (p Problems) with(rules Problems) Problems {
	all := slices.Clone(p)
	for _, r := range rules {
		echo := slices.ContainsFunc(p, func(q Problem) bool { return q.Key == r.Key })
		if len(p) == 0 || (!echo && r.Where.Source != "" && r.Where.Source != SourceDefault) {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(a.Where.fileFirst()-b.Where.fileFirst(), strings.Compare(a.Where.file(), b.Where.file()), a.Where.Line-b.Where.Line)
	})
	return all
}

func (o Origin) fileFirst() int {
	if o.Source == SourceFile {
		return 0
	}
	return 1
}

func (o Origin) file() string {
	if o.Source == SourceFile {
		return o.Name
	}
	return ""
}
