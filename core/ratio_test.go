package core

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
)

func TestParseRatio(t *testing.T) {
	for _, tc := range []struct {
		in, out string
		bad     bool
	}{
		{in: "1.25", out: "1.25"}, {in: "0", out: "0"}, {in: "-0.5", out: "-0.5"}, {in: "+3", out: "3"},
		{in: "2e-7", out: "0.0000002"}, {in: "1.5E3", out: "1500"}, {in: "0.000000001", out: "0.000000001"},
		{in: "1.0000000000", out: "1"}, {in: "9223372036", out: "9223372036"}, {in: ".5", out: "0.5"}, {in: "5.", out: "5"},
		{in: "0.0000000001", bad: true}, {in: "9223372037", bad: true}, {in: "1e30", bad: true}, {in: "", bad: true},
		{in: "abc", bad: true}, {in: "1.2.3", bad: true}, {in: "--1", bad: true}, {in: "1e", bad: true}, {in: "NaN", bad: true}, {in: "0e30", out: "0"},
	} {
		r, err := ParseRatio(tc.in)
		if (err != nil) != tc.bad {
			t.Errorf("ParseRatio(%q): error %v", tc.in, err)
			continue
		}
		if err == nil && r.String() != tc.out {
			t.Errorf("ParseRatio(%q) = %s, want %s", tc.in, r, tc.out)
		}
	}
}

func FuzzParseRatio(f *testing.F) {
	for _, s := range []string{"1.25", "-1e-9", "66.67", "9223372036.854775807", "00.1e+2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRatio(s)
		if err != nil {
			return
		}
		back, err := ParseRatio(r.String())
		if err != nil || back != r {
			t.Fatalf("%q -> %s -> %v, %v", s, r, back, err)
		}
		if want, ok := new(big.Rat).SetString(r.String()); ok {
			if got := new(big.Rat).SetFrac64(int64(r), int64(RatioOne)); got.Cmp(want) != 0 {
				t.Fatalf("%q: %s is not %s", s, got, want)
			}
		}
	})
}

func TestRatioJSON(t *testing.T) {
	var m map[string]Ratio
	if err := json.Unmarshal([]byte(`{"a":1.25,"b":0.1}`), &m); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(m)
	if err != nil || string(b) != `{"a":1.25,"b":0.1}` {
		t.Fatalf("%s %v", b, err)
	}
	if err := json.Unmarshal([]byte(`{"a":"x"}`), &m); err == nil {
		t.Fatal("a text is no ratio")
	}
}

func TestRatioText(t *testing.T) {
	for _, r := range []Ratio{0, 1, -1, 10, RatioOne, -RatioOne, RatioOne + 1, 1_250_000_000, 123_456_789_012_345_678, math.MaxInt64, math.MinInt64} {
		sign, n := "", uint64(r)
		if r < 0 {
			sign, n = "-", -n
		}
		want := sign + strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%d.%09d", n/uint64(RatioOne), n%uint64(RatioOne)), "0"), ".")
		if got := r.String(); got != want {
			t.Errorf("%d: %s, want %s", r, got, want)
		}
	}
}
