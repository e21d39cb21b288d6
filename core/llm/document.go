package llm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Kind is the type of a JSON value.
type Kind uint8

// The kinds.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// Value is where a value stands in its document: body[Start:End].
type Value struct {
	Kind    Kind
	Escaped bool // a string with escapes or bytes that may not be UTF-8: its text is not the raw bytes
	Start   int
	End     int
}

// Document is the index of a JSON body: where the keys stand that a codec
// reads or edits. It is made in one pass, which accepts exactly what
// encoding/json accepts as valid.
type Document struct {
	Root   Kind
	Tally  Tally // the text of the paths marked so
	System Value // content of the first system message, see Path

	schema *Schema
	body   []byte
	vals   []Value
}

// maxDepth is encoding/json's limit of nesting.
const maxDepth = 10000

// maxRecursion is the depth down to which values of interest are walked by
// recursion; below it a loop with a stack of bits takes over, so that a hostile
// body costs bytes and not stack frames.
const maxRecursion = 64

// Scan validates body and indexes it. A *BadRequest says what is wrong.
func Scan(s *Schema, body []byte) (Document, error) {
	var d Document
	err := d.Scan(s, body)
	return d, err
}

// Scan is the function Scan with the memory of an earlier document.
func (d *Document) Scan(s *Schema, body []byte) error {
	if cap(d.vals) < s.fields {
		d.vals = make([]Value, s.fields)
	}
	d.vals = d.vals[:s.fields]
	clear(d.vals)
	d.Root, d.Tally, d.System, d.schema, d.body = Absent, Tally{}, Value{}, s, body
	sc := scanner{b: body, d: d, strict: s.strict}
	i := sc.space(0)
	if i == len(body) {
		return &BadRequest{Message: "the body is empty"}
	}
	d.Root = kindOf(body[i])
	i = sc.value(i, s.root, s.root.text, classNone, 0)
	if i >= 0 {
		if i = sc.space(i); i < len(body) {
			sc.fail(i, "after the end of the value")
		}
	}
	if sc.err != nil {
		return sc.err
	}
	return nil
}

// Value is where a field stands; Kind Absent when it does not.
func (d *Document) Value(f Field) Value {
	if int(f) >= len(d.vals) {
		return Value{}
	}
	return d.vals[f]
}

// Has reports whether a field is there and not null.
func (d *Document) Has(f Field) bool { return d.Value(f).Kind > Null }

// Raw is the bytes of a value.
func (d *Document) Raw(v Value) []byte { return d.body[v.Start:v.End] }

// Text is a string value as encoding/json decodes it; "" for another kind.
func (d *Document) Text(v Value) string {
	if v.Kind != String {
		return ""
	}
	if !v.Escaped {
		return string(d.body[v.Start+1 : v.End-1])
	}
	return unquote(d.body[v.Start:v.End])
}

// IsText reports whether v is the string s, without allocating in the usual case.
func (d *Document) IsText(v Value, s string) bool {
	if v.Kind != String {
		return false
	}
	if !v.Escaped {
		return string(d.body[v.Start+1:v.End-1]) == s
	}
	return unquote(d.body[v.Start:v.End]) == s
}

func unquote(raw []byte) string {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return ""
	}
	return s
}

func (d *Document) bad(f Field, what string) error {
	return &BadRequest{Param: d.schema.Name(f), Message: what}
}

// RequireText is a field that must be a string with something in it.
func (d *Document) RequireText(f Field) (string, error) {
	v := d.Value(f)
	if v.Kind <= Null {
		return "", d.bad(f, "is required")
	}
	if v.Kind != String {
		return "", d.bad(f, "must be a string")
	}
	s := d.Text(v)
	if s == "" {
		return "", d.bad(f, "must not be empty")
	}
	return s, nil
}

// OptionalText is a field that may be missing or null.
func (d *Document) OptionalText(f Field) (string, error) {
	v := d.Value(f)
	if v.Kind <= Null {
		return "", nil
	}
	if v.Kind != String {
		return "", d.bad(f, "must be a string")
	}
	return d.Text(v), nil
}

// OptionalBool is a field that may be missing or null.
func (d *Document) OptionalBool(f Field) (value, given bool, err error) {
	v := d.Value(f)
	if v.Kind <= Null {
		return false, false, nil
	}
	if v.Kind != Bool {
		return false, false, d.bad(f, "must be true or false")
	}
	return d.body[v.Start] == 't', true, nil
}

// maxCount bounds every count that is read: 2^31 leaves room for products in 64 bit.
const maxCount = 1 << 31

// OptionalCount is a whole number from 0 to 2^31 that may be missing or null.
func (d *Document) OptionalCount(f Field) (value int64, given bool, err error) {
	v := d.Value(f)
	if v.Kind <= Null {
		return 0, false, nil
	}
	if v.Kind != Number {
		return 0, false, d.bad(f, "must be a whole number")
	}
	n, ok := wholeNumber(d.body[v.Start:v.End])
	if !ok {
		return 0, false, d.bad(f, "must be a whole number")
	}
	if n < 0 || n > maxCount {
		return 0, false, d.bad(f, fmt.Sprintf("must be from 0 to %d", int64(maxCount)))
	}
	return n, true, nil
}

// wholeNumber reads a JSON number whose value is whole: 5, 5.0, 5e3. A number
// too large to matter comes back as one that no limit allows.
func wholeNumber(raw []byte) (int64, bool) {
	s := string(raw)
	if !strings.ContainsAny(s, ".eE") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			n = maxCount + 1
			if s[0] == '-' {
				n = -1
			}
		}
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f > maxCount || f < -maxCount {
		if f < 0 {
			return -1, true
		}
		return maxCount + 1, true
	}
	n := int64(f)
	if float64(n) != f || (n == 0 && strings.ContainsAny(mantissa(s), "123456789")) {
		return 0, false // a fraction, also one too small for a float
	}
	return n, true
}

func mantissa(s string) string {
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		return s[:i]
	}
	return s
}

// RequireKind refuses a field that is missing, null or none of the kinds.
func (d *Document) RequireKind(f Field, what string, kinds ...Kind) error {
	v := d.Value(f)
	if v.Kind <= Null {
		return d.bad(f, "is required")
	}
	for _, k := range kinds {
		if v.Kind == k {
			return nil
		}
	}
	return d.bad(f, "must be "+what)
}

// OptionalKind is RequireKind for a field that may be missing or null.
func (d *Document) OptionalKind(f Field, what string, kinds ...Kind) error {
	if d.Value(f).Kind <= Null {
		return nil
	}
	return d.RequireKind(f, what, kinds...)
}

// Empty reports whether an array or object has nothing in it.
func (d *Document) Empty(v Value) bool {
	return len(bytes.TrimLeft(d.body[v.Start+1:v.End-1], " \t\r\n")) == 0
}

// Each calls f with the place of every element of an array.
func (d *Document) Each(v Value, f func(Value) error) error {
	if v.Kind != Array {
		return nil
	}
	sc := scanner{b: d.body}
	for i := sc.space(v.Start + 1); i < v.End-1; {
		end := sc.skip(i, false, 1)
		if err := f(Value{Kind: kindOf(d.body[i]), Start: i, End: end}); err != nil {
			return err
		}
		if i = sc.space(end); d.body[i] == ',' {
			i = sc.space(i + 1)
		}
	}
	return nil
}

// Members calls f with every member of an object: its key, where the key
// begins, and its value.
func (d *Document) Members(v Value, f func(key string, at int, v Value) error) error {
	if v.Kind != Object {
		return nil
	}
	sc := scanner{b: d.body}
	for i := sc.space(v.Start + 1); i < v.End-1; {
		at := i
		behind, wide, shrink := sc.str(i + 1)
		key := string(d.body[at+1 : behind-1])
		if wide|shrink != 0 {
			key = unquote(d.body[at:behind])
		}
		i = sc.space(sc.space(behind) + 1)
		end := sc.skip(i, false, 1)
		if err := f(key, at, Value{Kind: kindOf(d.body[i]), Start: i, End: end}); err != nil {
			return err
		}
		if i = sc.space(end); d.body[i] == ',' {
			i = sc.space(i + 1)
		}
	}
	return nil
}

// root is the place of the whole value.
func (d *Document) root() Value {
	v := Value{Kind: d.Root, Start: d.start(), End: len(d.body)}
	for d.body[v.End-1] <= ' ' {
		v.End--
	}
	return v
}

// duplicate is a key that occurs twice in one object, wherever that stands; ""
// without. The body was scanned before.
func (d *Document) duplicate() string {
	f := keyFinder{scanner: scanner{b: d.body}}
	f.value(d.start())
	return f.twice
}

// keyFinder is one pass that compares the keys of each object.
type keyFinder struct {
	scanner
	keys  []string // of the open objects, the innermost last
	twice string
}

// manyKeys is the size of an object from which a map is cheaper than a list.
const manyKeys = 16

func (f *keyFinder) value(i int) int {
	switch f.b[i] {
	case '{':
		return f.object(i)
	case '[':
		for i = f.space(i + 1); f.b[i] != ']'; {
			i = f.space(f.value(i))
			if f.b[i] == ',' {
				i = f.space(i + 1)
			}
		}
		return i + 1
	}
	return f.skip(i, false, 0)
}

func (f *keyFinder) object(i int) int {
	base := len(f.keys)
	var many map[string]bool
	for i = f.space(i + 1); f.b[i] != '}'; {
		end, wide, shrink := f.str(i + 1)
		key := string(f.b[i+1 : end-1])
		if wide|shrink != 0 {
			key = unquote(f.b[i:end])
		}
		switch own := f.keys[base:]; {
		case many != nil:
			if many[key] {
				f.twice = key
			}
			many[key] = true
		case slices.Contains(own, key):
			f.twice = key
		case len(own) < manyKeys:
			f.keys = append(f.keys, key)
		default:
			many = make(map[string]bool, 4*manyKeys)
			for _, k := range own {
				many[k] = true
			}
			many[key] = true
		}
		i = f.space(f.value(f.space(f.space(end) + 1)))
		if f.b[i] == ',' {
			i = f.space(i + 1)
		}
	}
	f.keys = f.keys[:base]
	return i + 1
}

func kindOf(c byte) Kind {
	switch c {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't', 'f':
		return Bool
	case 'n':
		return Null
	}
	return Number
}

// scanner is one pass over a body. Its methods take the index of the first byte
// and return the index behind the value, or -1 with err set.
type scanner struct {
	b      []byte
	d      *Document
	err    error
	strict bool
}

func (s *scanner) fail(i int, what string) int {
	if s.err == nil {
		if i >= len(s.b) {
			s.err = &BadRequest{Message: "invalid JSON: unexpected end"}
		} else {
			s.err = &BadRequest{Message: fmt.Sprintf("invalid JSON at byte %d: unexpected %q %s", i, rune(s.b[i]), what)}
		}
	}
	return -1
}

func (s *scanner) space(i int) int {
	for i < len(s.b) && s.b[i] <= ' ' {
		if c := s.b[i]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			break
		}
		i++
	}
	return i
}

// value scans one value. n is its place in the watched tree or nil; class is
// what its key says about a string.
func (s *scanner) value(i int, n *node, text bool, class class, depth int) int {
	b := s.b
	if i >= len(b) {
		return s.fail(i, "")
	}
	switch c := b[i]; {
	case c == '"':
		return s.stringValue(i, n, text, class)
	case c != '{' && c != '[':
	case n == nil && (!text || depth >= maxRecursion):
		return s.skip(i, text, depth)
	case c == '{':
		return s.object(i, n, text, class, depth+1)
	default:
		return s.array(i, n, text, depth+1)
	}
	end := s.scalar(i)
	if end < 0 {
		return end
	}
	if text {
		s.d.Tally.literal(end - i)
	}
	if n != nil {
		s.record(n, Value{Kind: kindOf(b[i]), Start: i, End: end})
	}
	return end
}

func (s *scanner) stringValue(i int, n *node, text bool, class class) int {
	end, wide, shrink := s.str(i + 1)
	if end < 0 {
		return end
	}
	if text {
		s.d.Tally.text(s.b[i+1:end-1], wide, shrink, class)
	}
	if n != nil {
		s.record(n, Value{Kind: String, Escaped: wide|shrink != 0, Start: i, End: end})
	}
	return end
}

func (s *scanner) record(n *node, v Value) {
	if n.field < 0 {
		return
	}
	if !s.strict && v.Kind == Null && s.d.vals[n.field].Kind != Absent {
		return
	}
	s.d.vals[n.field] = v
}

func (s *scanner) array(i int, n *node, text bool, depth int) int {
	start := i
	var elem *node
	if n != nil {
		elem = n.elem
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == ']' {
		i++
	} else {
		for {
			if elem != nil && s.strict {
				for _, f := range elem.inner {
					s.d.vals[f] = Value{}
				}
			}
			if i = s.value(i, elem, text || (elem != nil && elem.text), classNone, depth); i < 0 {
				return i
			}
			if elem != nil && elem.system {
				s.system(elem)
			}
			i = s.space(i)
			if i >= len(s.b) {
				return s.fail(i, "")
			}
			if c := s.b[i]; c == ']' {
				i++
				break
			} else if c != ',' {
				return s.fail(i, "after an array element")
			}
			i = s.space(i + 1)
		}
	}
	if n != nil {
		s.record(n, Value{Kind: Array, Start: start, End: i})
	}
	return i
}

// system keeps the content of the first system message.
func (s *scanner) system(n *node) {
	d := s.d
	if d.System.Kind != Absent {
		return
	}
	role := d.vals[n.role]
	if d.IsText(role, "system") || d.IsText(role, "developer") {
		d.System = d.vals[n.content]
		if d.System.Kind == Absent {
			d.System.Kind = Null // a system message without content
		}
	}
}

func (s *scanner) object(i int, n *node, text bool, outer class, depth int) int {
	start := i
	b := s.b
	i = s.space(i + 1)
	if i < len(b) && b[i] == '}' {
		if n != nil {
			s.record(n, Value{Kind: Object, Start: start, End: i + 1})
		}
		return i + 1
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return s.fail(i, "where a key begins")
		}
		end, wide, shrink := s.str(i + 1)
		if end < 0 {
			return end
		}
		raw := b[i+1 : end-1]
		var child *node
		if n != nil {
			if child = s.find(n, i, end, wide|shrink != 0); s.err != nil {
				return -1
			}
		}
		below, cl := text, classNone
		if text {
			s.d.Tally.key(len(raw), wide, shrink)
			cl = classOf(raw, outer)
		} else if child != nil {
			below = child.text
		}
		i = s.space(end)
		if i >= len(b) || b[i] != ':' {
			return s.fail(i, "after a key")
		}
		if i = s.value(s.space(i+1), child, below, cl, depth); i < 0 {
			return i
		}
		i = s.space(i)
		if i >= len(b) {
			return s.fail(i, "")
		}
		if c := b[i]; c == '}' {
			i++
			break
		} else if c != ',' {
			return s.fail(i, "after a value")
		}
		i = s.space(i + 1)
	}
	if n != nil {
		s.record(n, Value{Kind: Object, Start: start, End: i})
	}
	return i
}

// find is the watched child of a key. In a strict schema a second occurrence
// and a spelling that only some readers would take for the key are errors.
func (s *scanner) find(n *node, start, end int, odd bool) *node {
	if !odd {
		raw := s.b[start+1 : end-1]
		if len(raw) == 0 || n.mask>>maskBit(len(raw), raw[0])&1 == 0 {
			return nil
		}
		for i := range n.keys {
			k := &n.keys[i]
			if len(k.name) != len(raw) {
				continue
			}
			if string(raw) == k.name {
				return s.found(k.node, k.name)
			}
			if s.strict && foldASCII(raw, k.name) {
				s.variant(k.name, string(raw))
				return nil
			}
		}
		return nil
	}
	name := unquote(s.b[start:end])
	for i := range n.keys {
		k := &n.keys[i]
		if name == k.name {
			return s.found(k.node, k.name)
		}
		if s.strict && strings.EqualFold(name, k.name) {
			s.variant(k.name, name)
			return nil
		}
	}
	return nil
}

func (s *scanner) found(n *node, name string) *node {
	if s.strict && s.d.vals[n.field].Kind != Absent {
		s.err = &BadRequest{Param: s.d.schema.Name(Field(n.field)), Message: fmt.Sprintf("the key %q occurs twice", name)}
	}
	return n
}

func (s *scanner) variant(name, seen string) {
	s.err = &BadRequest{Param: seen, Message: fmt.Sprintf("the key is spelt %q; vendors differ in how they read other letter cases", name)}
}

// foldASCII compares two texts of equal length without letter case.
func foldASCII(a []byte, b string) bool {
	for i := range len(b) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special sets the high bit of bytes that end a plain run: a byte under 0x20 or
// a quote becomes under 0x21 by xor 2; a backslash becomes 0. It holds for bytes
// under 0x80 (mask the others out), and the lowest hit is exact: a borrow comes
// only from a hit below.
func special(w uint64) uint64 { return ((w ^ 0x02*ones) - 0x21*ones) | ((w ^ 0x5c*ones) - ones) }

// str scans a string from behind its opening quote and returns the index behind
// the closing one, eight bytes a step. wide is how many bytes over 0x7f the
// text has, escapes taken for what they stand for; of its raw bytes the text has
// len - wide - shrink of ASCII. Both are 0 for plain ASCII without escapes only.
func (s *scanner) str(i int) (end, wide, shrink int) {
	b := s.b
	for {
		// Plain ASCII, four words a step; what is not goes on below.
		for i+32 <= len(b) {
			q := b[i : i+32 : i+32]
			w0, w1 := binary.LittleEndian.Uint64(q), binary.LittleEndian.Uint64(q[8:])
			w2, w3 := binary.LittleEndian.Uint64(q[16:]), binary.LittleEndian.Uint64(q[24:])
			if (special(w0)|special(w1)|special(w2)|special(w3)|w0|w1|w2|w3)&highs != 0 {
				break
			}
			i += 32
		}
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			ascii := ^w & highs
			hit := special(w) & ascii
			if hit == 0 {
				if ascii != highs {
					wide += bits.OnesCount64(w & highs)
				}
				i += 8
				continue
			}
			k := bits.TrailingZeros64(hit) &^ 7
			if ascii != highs {
				wide += bits.OnesCount64(w & highs & (1<<k - 1))
			}
			i += k >> 3
			break
		}
		for i < len(b) {
			c := b[i]
			if c == '"' {
				return i + 1, wide, shrink
			}
			if c == '\\' || c < 0x20 || i+8 <= len(b) {
				break
			}
			if c >= 0x80 {
				wide++
			}
			i++
		}
		if i >= len(b) {
			return s.fail(i, ""), 0, 0
		}
		switch c := b[i]; {
		case c == '\\':
			n, w := s.escape(i)
			if n < 0 {
				return n, 0, 0
			}
			wide += w
			shrink += n - i - max(w, 1)
			i = n
		case c < 0x20:
			return s.fail(i, "in a string"), 0, 0
		}
	}
}

// escape reads one escape; wide is how many bytes over 0x7f it stands for.
func (s *scanner) escape(i int) (next, wide int) {
	b := s.b
	if i+1 >= len(b) {
		return s.fail(len(b), ""), 0
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2, 0
	case 'u':
		r := 0
		for j := i + 2; j < i+6; j++ {
			if j >= len(b) {
				return s.fail(j, ""), 0
			}
			v := hexDigit(b[j])
			if v < 0 {
				return s.fail(j, "in a \\u escape"), 0
			}
			r = r<<4 | v
		}
		switch {
		case r < 0x80:
			return i + 6, 0
		case r < 0x800, r >= 0xd800 && r < 0xe000: // half of a pair
			return i + 6, 2
		}
		return i + 6, 3
	}
	return s.fail(i+1, "in an escape"), 0
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// scalar scans a number or a literal.
func (s *scanner) scalar(i int) int {
	b := s.b
	switch c := b[i]; {
	case c == 't':
		return s.word(i, "true")
	case c == 'f':
		return s.word(i, "false")
	case c == 'n':
		return s.word(i, "null")
	case c == '-' || c >= '0' && c <= '9':
		return s.number(i)
	}
	return s.fail(i, "where a value begins")
}

func (s *scanner) word(i int, w string) int {
	if len(s.b)-i >= len(w) && string(s.b[i:i+len(w)]) == w {
		return i + len(w)
	}
	for j := range len(w) {
		if i+j >= len(s.b) || s.b[i+j] != w[j] {
			return s.fail(i+j, "in the word "+w)
		}
	}
	return s.fail(i, "")
}

func (s *scanner) digits(i int) int {
	for i < len(s.b) && s.b[i]-'0' <= 9 {
		i++
	}
	return i
}

func (s *scanner) number(i int) int {
	b := s.b
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else {
		j := s.digits(i)
		if j == i {
			return s.fail(i, "in a number")
		}
		i = j
	}
	if i < len(b) && b[i] == '.' {
		j := s.digits(i + 1)
		if j == i+1 {
			return s.fail(j, "in a number")
		}
		i = j
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		j := s.digits(i)
		if j == i {
			return s.fail(i, "in a number")
		}
		i = j
	}
	return i
}

// skip validates a value of no interest without recursion. depth is the number
// of open arrays and objects around it.
func (s *scanner) skip(i int, text bool, depth int) int {
	b := s.b
	var few [2]uint64 // the first 128 levels
	open := few[:]
	level := 0 // bit level-1 tells whether the innermost one is an object
	inObject := false
	for {
		// A value begins here.
		if i >= len(b) {
			return s.fail(i, "")
		}
		switch c := b[i]; c {
		case '{', '[':
			if depth+level >= maxDepth {
				return s.fail(i, "nested too deeply")
			}
			object := c == '{'
			if level>>6 == len(open) {
				open = append(open, 0)
			}
			if object {
				open[level>>6] |= 1 << (level & 63)
			} else {
				open[level>>6] &^= 1 << (level & 63)
			}
			level++
			i = s.space(i + 1)
			if i < len(b) && b[i] == c+2 { // ']' and '}' are two behind their openers
				i++
				level--
				break
			}
			inObject = object
			if object {
				if i = s.skipKey(i, text); i < 0 {
					return i
				}
			}
			continue
		case '"':
			end, wide, shrink := s.str(i + 1)
			if end < 0 {
				return end
			}
			if text {
				s.d.Tally.text(b[i+1:end-1], wide, shrink, classNone)
			}
			i = end
		default:
			end := s.scalar(i)
			if end < 0 {
				return end
			}
			if text {
				s.d.Tally.literal(end - i)
			}
			i = end
		}
		// A value has ended here.
		for {
			if level == 0 {
				return i
			}
			inObject = open[(level-1)>>6]>>((level-1)&63)&1 == 1
			i = s.space(i)
			if i >= len(b) {
				return s.fail(i, "")
			}
			if c := b[i]; c == ',' {
				i = s.space(i + 1)
				break
			} else if inObject && c == '}' || !inObject && c == ']' {
				i++
				level--
				continue
			}
			return s.fail(i, "after a value")
		}
		if inObject {
			if i = s.skipKey(i, text); i < 0 {
				return i
			}
		}
	}
}

func (s *scanner) skipKey(i int, text bool) int {
	if i >= len(s.b) || s.b[i] != '"' {
		return s.fail(i, "where a key begins")
	}
	end, wide, shrink := s.str(i + 1)
	if end < 0 {
		return end
	}
	if text {
		s.d.Tally.key(end-i-2, wide, shrink)
	}
	i = s.space(end)
	if i >= len(s.b) || s.b[i] != ':' {
		return s.fail(i, "after a key")
	}
	return s.space(i + 1)
}
