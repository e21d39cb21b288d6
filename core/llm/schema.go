package llm

import (
	"fmt"
	"strings"
)

// Field is the number of a watched path: its index in the table that NewSchema
// was given.
type Field int

// Path is one watched place of a JSON document.
type Path struct {
	// At is the path: keys parted by dots, "#" for every element of an array.
	// "a|b" are two spellings of one key, as protobuf's JSON allows. Each key on
	// the way needs an earlier entry of its own.
	At string
	// Text: the strings below count as text (see Tally).
	Text bool
	// System marks the elements of a list of messages: the first one whose role
	// is system or developer is kept (Document.System). It needs Role and Content.
	Role, Content Field
}

// Schema is a static table of watched paths. It is immutable.
type Schema struct {
	root   *node
	fields int
	names  []string
	// strict: a watched key that occurs twice or in another letter case is an
	// error. A schema for answers is not strict: there the last one wins, except
	// that null does not replace a value.
	strict bool
}

// node is one place of the watched tree.
type node struct {
	field   int // -1: an element of an array
	keys    []childKey
	mask    uint64 // maskBit of each key: most other keys are told apart by it
	elem    *node
	text    bool
	inner   []int // fields below an element, cleared before each one
	role    int   // System elements; 0 and 0 = not
	content int
	system  bool
	path    string
}

type childKey struct {
	name string
	node *node
}

// NewSchema builds the table for requests. It panics on a table that
// contradicts itself: tables are written in the source.
func NewSchema(paths ...Path) *Schema { return newSchema(true, paths) }

// Pick is a table with only some of its entries; the fields keep their numbers.
func Pick(table []Path, fields ...Field) []Path {
	out := make([]Path, len(table))
	for _, f := range fields {
		out[f] = table[f]
	}
	return out
}

// NewAnswerSchema builds a table for answers, which is lenient.
func NewAnswerSchema(paths ...Path) *Schema { return newSchema(false, paths) }

func newSchema(strict bool, paths []Path) *Schema {
	s := &Schema{root: &node{field: -1}, fields: len(paths), strict: strict, names: make([]string, len(paths))}
	for i, p := range paths {
		if p.At == "" {
			continue
		}
		s.names[i] = plainName(p.At)
		s.add(i, p)
	}
	s.root.finish()
	return s
}

func (s *Schema) add(i int, p Path) {
	n, segments := s.root, strings.Split(p.At, ".")
	for j, seg := range segments {
		last := j == len(segments)-1
		if seg == "#" {
			if n.elem == nil {
				n.elem = &node{field: -1}
			}
			n = n.elem
			if last {
				n.field = i
			}
		} else {
			n = n.child(seg, last, i)
		}
	}
	n.text, n.path = p.Text, p.At
	if p.Role != 0 || p.Content != 0 {
		n.system, n.role, n.content = true, int(p.Role), int(p.Content)
	}
}

func (n *node) child(seg string, last bool, field int) *node {
	names := strings.Split(seg, "|")
	for _, k := range n.keys {
		if k.name == names[0] {
			if last {
				panic(fmt.Sprintf("llm: path %q twice", seg))
			}
			return k.node
		}
	}
	if !last {
		panic(fmt.Sprintf("llm: no entry for %q", seg))
	}
	c := &node{field: field}
	for _, name := range names {
		n.keys = append(n.keys, childKey{name, c})
		n.mask |= 1 << maskBit(len(name), name[0])
	}
	return c
}

// maskBit makes a number below 64 of a key's length and first letter in any case.
func maskBit(size int, first byte) uint { return (uint(size)*5 + uint(first&0x1f)) & 63 }

// finish fills inner and returns the fields at and below n.
func (n *node) finish() []int {
	var below []int
	seen := map[*node]bool{}
	for _, k := range n.keys {
		if !seen[k.node] {
			seen[k.node] = true
			below = append(below, k.node.finish()...)
		}
	}
	if n.elem != nil {
		n.elem.inner = n.elem.finish()
		below = append(below, n.elem.inner...)
	}
	if n.field >= 0 {
		below = append(below, n.field)
	}
	return below
}

// Name is the path of a field as an error names it.
func (s *Schema) Name(f Field) string { return s.names[f] }

// plainName drops all spellings but the first.
func plainName(at string) string {
	segments := strings.Split(strings.ReplaceAll(at, ".#", "[]"), ".")
	for i, seg := range segments {
		segments[i], _, _ = strings.Cut(seg, "|")
	}
	return strings.Join(segments, ".")
}
