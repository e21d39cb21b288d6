package core

import (
	"fmt"
	"strconv"
	"strings"
)

// Ratio is an exact decimal with nine places: the integer counts units of
// 10^-9. Prices and group ratios are Ratios, so that no float ever touches
// money. The range is about ±9.2 billion.
type Ratio int64

// RatioOne is the ratio 1.
const RatioOne Ratio = 1_000_000_000

// RatioScale is the number of decimal places of a Ratio.
const RatioScale = 9

// ParseRatio reads a plain or exponent decimal such as "1.25", "-3", "2e-7".
// More than nine significant places after the point are an error, not a
// rounding: what is stored is what was typed.
func ParseRatio(text string) (Ratio, error) {
	bad := func(why string) (Ratio, error) { return 0, fmt.Errorf("ratio %q: %s", text, why) }
	s := strings.TrimSpace(text)
	exp := 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(s[i+1:])
		if err != nil || e < -30 || e > 30 {
			return bad("bad exponent")
		}
		s, exp = s[:i], e
	}
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	whole, frac, _ := strings.Cut(s, ".")
	digits := whole + frac
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return bad("not a decimal number")
	}
	shift := RatioScale + exp - len(frac)
	for shift < 0 && strings.HasSuffix(digits, "0") {
		digits, shift = digits[:len(digits)-1], shift+1
	}
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		return 0, nil
	}
	if shift < 0 {
		return bad("more than nine decimal places")
	}
	if len(digits)+shift > 19 {
		return bad("too large")
	}
	n, err := strconv.ParseInt(digits+strings.Repeat("0", shift), 10, 64)
	if err != nil {
		return bad("too large")
	}
	if neg {
		n = -n
	}
	return Ratio(n), nil
}

// MustRatio is ParseRatio for literals in tables and tests; it panics.
func MustRatio(text string) Ratio {
	r, err := ParseRatio(text)
	if err != nil {
		panic(err)
	}
	return r
}

// String returns the shortest decimal, such as "1.25".
func (r Ratio) String() string { return string(r.Append(nil)) }

// Append adds the text of String to b.
func (r Ratio) Append(b []byte) []byte {
	n := uint64(r)
	if r < 0 {
		b, n = append(b, '-'), uint64(-r)
	}
	one := uint64(RatioOne)
	b = strconv.AppendUint(b, n/one, 10)
	if n %= one; n > 0 {
		b = append(b, '.')
	}
	for n > 0 {
		n *= 10
		b = append(b, '0'+byte(n/one))
		n %= one
	}
	return b
}

// MarshalJSON writes a JSON number.
func (r Ratio) MarshalJSON() ([]byte, error) { return r.Append(make([]byte, 0, 24)), nil }

// UnmarshalJSON reads a JSON number from its text, without a float between.
func (r *Ratio) UnmarshalJSON(b []byte) error {
	v, err := ParseRatio(string(b))
	if err != nil {
		return err
	}
	*r = v
	return nil
}

// UnmarshalText reads a decimal text, for YAML.
func (r *Ratio) UnmarshalText(b []byte) error { return r.UnmarshalJSON(b) }
