package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/configs"
)

// The shipped file and the struct say the same: keys, defaults, reload, and the
// New API name of each key that has one.
func TestShippedFile(t *testing.T) {
	data, err := configs.Read(configs.Sluice)
	if err != nil {
		t.Fatal(err)
	}
	settings, problems := parseYAML(newSchema(), configs.Sluice, data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	lines := strings.Split(string(data), "\n")
	def := Default()
	inFile := map[string]string{}
	for _, s := range settings {
		k := newSchema().byName[s.key]
		v, err := k.parse(s.leaf)
		if err != nil {
			t.Errorf("%s: %v", s.key, err)
			continue
		}
		if got, want := k.leaf(v), k.leaf(k.field(def)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: file has %v, default is %v", s.key, got, want)
		}
		inFile[s.key] = commentAbove(lines, s.origin.Line)
	}
	reload := regexp.MustCompile(`reload: (yes|no)\b`)
	for _, k := range Keys() {
		comment, ok := inFile[k.Name]
		if !ok {
			t.Errorf("%s is not in the file", k.Name)
			continue
		}
		m := reload.FindAllStringSubmatch(comment, -1)
		if len(m) != 1 || (m[0][1] == "yes") != k.Reload {
			t.Errorf("%s: reload is %v, the comment says %q", k.Name, k.Reload, comment)
		}
		if len(comment) < len("reload: no")+5 {
			t.Errorf("%s has no comment", k.Name)
		}
	}
	for _, n := range newAPINames() {
		if !regexp.MustCompile(`\b` + n.name + `\b`).MatchString(inFile[n.key]) {
			t.Errorf("%s: the comment does not name %s", n.key, n.name)
		}
	}
}

func commentAbove(lines []string, line int) string {
	var out []string
	for i := line - 2; i >= 0; i-- {
		text, ok := strings.CutPrefix(strings.TrimSpace(lines[i]), "#")
		if !ok {
			break
		}
		out = append([]string{strings.TrimSpace(text)}, out...)
	}
	return strings.Join(out, " ")
}

func TestClusterFile(t *testing.T) {
	data, err := configs.Read(configs.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	file := writeTemp(t, "cluster.yaml", string(data))
	c := load(t, Sources{File: file, Env: []string{"SQL_DSN=" + mysqlIn, "SESSION_SECRET=" + secretA, "CRYPTO_SECRET=" + secretB, "NODE_TYPE=slave"}})
	if len(c.Notices()) > 0 {
		t.Error(c.Notices())
	}
	if c.Node.FrontendBaseURL != "https://your-domain.com" {
		t.Error(c.Node.FrontendBaseURL)
	}
}

// Every key is named by its environment twin.
func TestEnvTwins(t *testing.T) {
	for _, k := range Keys() {
		if k.Env != "SLUICE_"+strings.ToUpper(strings.ReplaceAll(k.Name, ".", "__")) {
			t.Error(k.Name, k.Env)
		}
		if strings.HasSuffix(k.Name, "_file") || strings.Contains(k.Name, "__") {
			t.Errorf("%s cannot have a twin", k.Name)
		}
		leaf := k.leaf(k.field(Default()))
		text, ok := leaf.(string)
		if list, isList := leaf.([]string); isList {
			text, ok = strings.Join(list, ","), len(list) > 0
		}
		if !ok || k.Secret {
			continue
		}
		c := load(t, Sources{Env: []string{k.Env + "=" + text}})
		if got := c.Origin(k.Name).String(); got != "env "+k.Env && text != "" {
			t.Errorf("%s: %s", k.Name, got)
		}
	}
}
