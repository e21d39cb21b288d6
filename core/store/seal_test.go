package store

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core"
)

func TestSeal(t *testing.T) {
	a, b := testKeys(t, "secret a 0123456789"), testKeys(t, "secret b 0123456789")
	both, err := NewKeyring("secret b 0123456789", []core.Secret{"secret a 0123456789", "secret a 0123456789"})
	if err != nil {
		t.Fatal(err)
	}
	if len(both.keys) != 2 {
		t.Fatalf("%d keys: a secret given twice counts twice", len(both.keys))
	}
	for _, text := range []string{"x", "sk-ü", strings.Repeat("long", 10_000)} {
		one, err := a.seal(text, "t", "c", "1")
		if err != nil {
			t.Fatal(err)
		}
		two, _ := a.seal(text, "t", "c", "1")
		if bytes.Equal(one, two) || len(text) > 4 && bytes.Contains(one, []byte(text)) { // a letter stands in random bytes by chance
			t.Fatal("sealing is not random, or does not hide")
		}
		for _, k := range []*Keyring{a, both} {
			if got, err := k.open(one, "t", "c", "1"); err != nil || got != text {
				t.Fatalf("open: %q, %v", got, err)
			}
		}
		if _, err := b.open(one, "t", "c", "1"); !errors.Is(err, ErrUnknownKey) {
			t.Fatalf("another secret: %v", err)
		}
		for _, place := range [][3]string{{"t", "c", "2"}, {"t", "d", "1"}, {"u", "c", "1"}} {
			if _, err := a.open(one, place[0], place[1], place[2]); !errors.Is(err, ErrSealed) {
				t.Fatalf("%v: %v", place, err)
			}
		}
		for i := 0; i < len(one); i += 1 + len(one)/97 {
			bad := bytes.Clone(one)
			bad[i] ^= 1
			if got, err := a.open(bad, "t", "c", "1"); err == nil {
				t.Fatalf("changed at %d and opened to %q", i, got)
			}
		}
	}
	if sealed, err := a.seal("", "t", "c", "1"); err != nil || sealed != nil {
		t.Fatal("the empty text is not nil")
	}
	if text, err := a.open(nil, "t", "c", "1"); err != nil || text != "" {
		t.Fatal("nil is not the empty text")
	}
	if bytes.Equal(a.KeyHashes("k")[0], b.KeyHashes("k")[0]) {
		t.Fatal("two secrets give one hash")
	}
	if !bytes.Equal(both.KeyHashes("sk-k")[1], a.KeyHashes("k")[0]) {
		t.Fatal("the old secret's hash does not come second")
	}
}

func TestNewTokenKey(t *testing.T) {
	seen := map[core.Secret]bool{}
	count := map[rune]int{}
	for range 2000 {
		k := NewTokenKey()
		if seen[k] || len(k) != core.TokenKeyLength {
			t.Fatalf("key of length %d, seen %v", len(k), seen[k])
		}
		seen[k] = true
		for _, r := range k.Reveal() {
			count[r]++
		}
	}
	if len(count) != 62 {
		t.Fatalf("%d different characters", len(count))
	}
	for r, n := range count { // 96,000 draws over 62: mean 1548, deviation 39
		if n < 1300 || n > 1800 {
			t.Errorf("%c came %d times", r, n)
		}
	}
}

// FuzzOpen: what stands in the database may be anything.
func FuzzOpen(f *testing.F) {
	k, err := NewKeyring("fuzz secret 0123456789", nil)
	if err != nil {
		f.Fatal(err)
	}
	good, _ := k.seal("text", "t", "c", "1")
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{sealV1})
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := k.open(b, "t", "c", "1")
		if err == nil && text != "" && text != "text" { // other processes of the fuzzer sealed the seed anew
			t.Fatalf("%x opened to %q", b, text)
		}
	})
}

func TestPattern(t *testing.T) {
	for in, want := range map[string]string{"": "%%", "a%b_c!d\\": `%a!%b!_c!!d\%`} {
		if got, err := pattern(in); err != nil || got != want {
			t.Errorf("pattern(%q) = %q, %v", in, got, err)
		}
	}
	if _, err := pattern(strings.Repeat("é", maxKeyword)); err != nil {
		t.Error(err)
	}
	if _, err := pattern(strings.Repeat("é", maxKeyword+1)); !core.IsCode(err, core.CodeInvalidRequest) {
		t.Error(err)
	}
}
