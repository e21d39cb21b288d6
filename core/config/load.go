package config

import (
	"fmt"
	"maps"
	"os"

	"github.com/knadh/koanf/v2"

	koanfmaps "github.com/knadh/koanf/maps"
)

// Sources is what Load reads, weakest first: the file, then Env (over DotEnv),
// then Flags.
type Sources struct {
	File   string            // YAML file; "" = what SLUICE_CONFIG names, else none
	Env    []string          // os.Environ()
	DotEnv string            // path of a .env file, which need not exist; "" = none
	Flags  map[string]string // port, log-dir, data-dir: those that were given
}

// FromProcess is what a command reads: the process's environment and the .env
// file of the working folder, beside the file and the flags.
func FromProcess(file string, flags map[string]string) Sources {
	return Sources{File: file, Env: os.Environ(), DotEnv: ".env", Flags: flags}
}

// Load reads all sources and returns the effective configuration, or Problems
// that name every fault with its place. It writes nothing: see
// WithStoredSecrets.
func Load(src Sources) (*Config, error) {
	l := &loader{schema: newSchema(), layers: koanf.New("."), origins: map[string]Origin{}}
	env := readEnvironment(src.Env, src.DotEnv)
	l.problems = append(l.problems, env.problems...)
	env.problems = nil
	l.defaults()
	l.file(src.File, env)
	l.add(env.newAPISettings(l.schema, l.now))
	l.add(env.ownSettings(l.schema))
	l.problems = append(l.problems, env.problems...)
	l.flags(src.Flags)
	c, err := l.decode()
	if err != nil {
		return nil, err
	}
	c.notices = env.notices
	c.finish()
	if l.problems = l.problems.with(c.validate()); len(l.problems) > 0 {
		return nil, l.problems
	}
	return c, nil
}

// loader lays the sources over each other. koanf holds the winning leaf of each
// key, origins where it came from.
type loader struct {
	schema   *schema
	layers   *koanf.Koanf
	origins  map[string]Origin
	problems Problems
}

// layer is a source that koanf loads.
type layer map[string]any

// ReadBytes is not used: koanf calls it only with a parser.
func (l layer) ReadBytes() ([]byte, error) { return nil, fmt.Errorf("a layer has no bytes") }

// Read returns the nested map.
func (l layer) Read() (map[string]any, error) { return koanfmaps.Unflatten(l, "."), nil }

var _ koanf.Provider = layer(nil)

func (l *loader) defaults() {
	c := Default()
	values := layer{}
	for i := range l.schema.keys {
		k := &l.schema.keys[i]
		values[k.Name] = k.leaf(k.field(c))
	}
	l.load(values)
}

func (l *loader) load(values layer) {
	if err := l.layers.Load(values, nil); err != nil {
		l.problems = append(l.problems, Problem{Reason: "merge: " + err.Error()})
	}
}

// add checks a layer's values one by one, so that a fault is told with its
// place even where a stronger source hides it.
func (l *loader) add(settings []setting) {
	values := layer{}
	for _, s := range settings {
		if _, err := l.schema.byName[s.key].parse(s.leaf); err != nil {
			l.problems = append(l.problems, Problem{Where: s.origin, Key: s.key, Reason: err.Error()})
			continue
		}
		values[s.key] = s.leaf
		l.origins[s.key] = s.origin
	}
	l.load(values)
}

func (l *loader) now(key string) string { return l.layers.String(key) }

func (l *loader) file(path string, env *environment) {
	asked := Origin{Source: SourceFlag, Name: "config"}
	if path == "" {
		path = env.vars[fileEnv].value
		asked = env.origin(fileEnv)
	}
	if path == "" {
		return
	}
	data, err := readFile(path)
	if err != nil {
		l.problems = append(l.problems, Problem{Where: asked, Reason: fmt.Sprintf("read %s: %s", quote(path), cause(err))})
		return
	}
	settings, problems := parseYAML(l.schema, path, data)
	l.problems = append(l.problems, problems...)
	l.add(settings)
}

func (l *loader) flags(flags map[string]string) {
	names := map[string]string{"port": "server.listen", "log-dir": "log.dir", "data-dir": "node.data_dir"}
	var settings []setting
	for name, value := range flags {
		origin := Origin{Source: SourceFlag, Name: name}
		key, known := names[name]
		if !known {
			l.problems = append(l.problems, Problem{Where: origin, Reason: "no such setting"})
			continue
		}
		if name == "port" {
			leaf, _, err := port(value, l.now(key))
			if err != nil {
				l.problems = append(l.problems, Problem{Where: origin, Key: key, Reason: err.Error()})
				continue
			}
			value = leaf
		}
		settings = append(settings, setting{key, value, origin})
	}
	l.add(settings)
}

func (l *loader) decode() (*Config, error) {
	c := &Config{origins: maps.Clone(l.origins)}
	for i := range l.schema.keys {
		k := &l.schema.keys[i]
		v, err := k.parse(l.layers.Get(k.Name))
		if err != nil {
			return nil, Problems{{Where: l.origins[k.Name], Key: k.Name, Reason: err.Error()}}
		}
		k.field(c).Set(v)
	}
	return c, nil
}
