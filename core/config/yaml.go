package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the YAML file and the .env file.
const maxFile = 1 << 20

// setting is one value that a layer gives.
type setting struct {
	key    string
	leaf   any
	origin Origin
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than 1 MB", path)
	}
	return data, nil
}

// parseYAML walks the file's nodes, since only they know their lines.
func parseYAML(s *schema, name string, data []byte) ([]setting, Problems) {
	y := &yamlReader{schema: s, name: name, seen: map[string]int{}}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			y.syntax(err)
		}
		return nil, y.problems
	}
	switch err := decoder.Decode(&more); {
	case err == nil:
		y.problem(&more, "", "a second document: the configuration is one document")
	case !errors.Is(err, io.EOF):
		y.syntax(err)
	}
	if len(doc.Content) == 1 && !isNull(doc.Content[0]) {
		y.section(doc.Content[0], "")
	}
	return y.settings, y.problems
}

type yamlReader struct {
	schema   *schema
	name     string
	seen     map[string]int // key -> line
	settings []setting
	problems Problems
}

func (y *yamlReader) origin(n *yaml.Node) Origin {
	return Origin{Source: SourceFile, Name: y.name, Line: n.Line}
}

func (y *yamlReader) problem(n *yaml.Node, key, reason string) {
	y.problems = append(y.problems, Problem{Where: y.origin(n), Key: key, Reason: reason})
}

// syntax turns the parser's "yaml: line 3: reason" into a place and a reason.
func (y *yamlReader) syntax(err error) {
	p := Problem{Where: Origin{Source: SourceFile, Name: y.name}, Reason: err.Error()}
	if m := regexp.MustCompile(`^yaml: line (\d+): (.*)$`).FindStringSubmatch(p.Reason); m != nil {
		p.Where.Line, _ = strconv.Atoi(m[1])
		p.Reason = "not YAML: " + m[2]
	}
	y.problems = append(y.problems, p)
}

// section reads a mapping whose keys continue prefix. It cannot recurse deeper
// than the schema does, whatever aliases say.
func (y *yamlReader) section(n *yaml.Node, prefix string) {
	n = target(n)
	if n.Kind != yaml.MappingNode {
		y.problem(n, prefix, "must be a section of keys, each on its own line")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		y.entry(n.Content[i], n.Content[i+1], prefix)
	}
}

func (y *yamlReader) entry(name, value *yaml.Node, prefix string) {
	key := name.Value
	if prefix != "" {
		key = prefix + "." + key
	}
	k, isKey := y.schema.byName[key]
	isSection := y.schema.sections[key]
	if name.Kind != yaml.ScalarNode || name.Value == "" || (!isKey && !isSection) {
		y.problem(name, "", y.unknown(key))
		return
	}
	if line, twice := y.seen[key]; twice {
		y.problem(name, key, fmt.Sprintf("stands twice (first in line %d)", line))
		return
	}
	y.seen[key] = name.Line
	switch {
	case isSection && isNull(value): // all its keys are commented out
	case isSection:
		y.section(value, key)
	case isNull(value):
		y.problem(name, key, `has no value: remove the line, or write "" for an empty one`)
	default:
		y.value(k, value)
	}
}

func (y *yamlReader) unknown(key string) string {
	if like := y.schema.like(key); like != "" {
		return fmt.Sprintf("unknown key %s (did you mean %s?)", quote(key), like)
	}
	return fmt.Sprintf("unknown key %s", quote(key))
}

func (y *yamlReader) value(k *Key, n *yaml.Node) {
	at := n
	n = target(n)
	switch n.Kind {
	case yaml.ScalarNode:
		y.settings = append(y.settings, setting{k.Name, n.Value, y.origin(at)})
	case yaml.SequenceNode:
		list := make([]string, 0, len(n.Content))
		for _, item := range n.Content {
			item = target(item)
			if item.Kind != yaml.ScalarNode || isNull(item) {
				y.problem(at, k.Name, "its entries must be single values")
				return
			}
			list = append(list, item.Value)
		}
		y.settings = append(y.settings, setting{k.Name, list, y.origin(at)})
	default:
		y.problem(at, k.Name, "must be a value, not a section")
	}
}

func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = target(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
