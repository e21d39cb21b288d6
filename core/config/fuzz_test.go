package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/configs"
)

// Whatever the file holds: no panic, problems have a place, and what parses
// survives being printed and read again.
func FuzzParseYAML(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	shipped, err := configs.Read(configs.Sluice)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shipped)
	f.Add([]byte("relay: &a\n  breaker: *a\n"))
	f.Add([]byte("&a [*a]"))
	s := newSchema()
	f.Fuzz(func(t *testing.T, data []byte) {
		settings, problems := parseYAML(s, "f.yaml", data)
		for _, p := range problems {
			if p.Where.Name != "f.yaml" || p.Reason == "" || len(p.Reason) > 1000 {
				t.Fatalf("%+v", p)
			}
		}
		for _, one := range settings {
			roundTrip(t, s.byName[one.key], one.leaf)
		}
	})
}

// roundTrip holds leaf and parse to being inverse.
func roundTrip(t *testing.T, k *Key, leaf any) {
	t.Helper()
	v, err := k.parse(leaf)
	if err != nil {
		return
	}
	again, err := k.parse(k.leaf(v))
	if err != nil || !reflect.DeepEqual(v.Interface(), again.Interface()) {
		t.Fatalf("%s: %q reads as %v and then as %v, %v", k.Name, leaf, v, again, err)
	}
}

// The environment as a text of lines NAME=value, given as .env and as variables.
func FuzzEnvironment(f *testing.F) {
	for _, seed := range []string{
		"SQL_DSN=root:password@tcp(h:3306)/d\nSESSION_SECRET=" + secretA + "\nCRYPTO_SECRET=" + secretB, "PORT=1\nTZ=UTC", "SLUICE_RELAY__IDLE_TIMEOUT=1s",
		"SLUICE_SERVER__TRUSTED_PROXIES=10.0.0.1,fe80::1%eth0/64", "export A='b", "A=\"x\\n$B\"\nTRUSTED_PROXIES=::ffff:10.0.0.0/104", "NODE_TYPE=slave", "- x",
		"SLUICE_CONFIG_=1\nSLUICE___=2\nSLUICE_A__B=3", "SLUICE_SERVER__MAX_HEADER_BYTES=9223372036854775807B",
	} {
		f.Add(seed)
	}
	s := newSchema()
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, fileSuffix) || strings.Contains(text, fileEnv) {
			return // they name files of this machine
		}
		dotEnv := filepath.Join(t.TempDir(), ".env")
		if err := os.WriteFile(dotEnv, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, src := range []Sources{{Env: strings.Split(text, "\n")}, {DotEnv: dotEnv}} {
			c, err := Load(src)
			if err != nil {
				continue
			}
			var b bytes.Buffer
			if err := c.Print(&b); err != nil {
				t.Fatal(err)
			}
			settings, problems := parseYAML(s, "printed", b.Bytes())
			if len(problems) > 0 || len(settings) != len(s.keys) {
				t.Fatalf("what is printed does not read back: %v\n%s", problems, b.String())
			}
			for i := range s.keys {
				k := &s.keys[i]
				roundTrip(t, k, k.leaf(k.field(c)))
			}
		}
	})
}
