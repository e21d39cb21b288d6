package config

import "strings"

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
