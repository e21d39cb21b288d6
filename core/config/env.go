package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/joho/godotenv"
)

// EnvPrefix begins every variable of our own.
const EnvPrefix = "SLUICE_"

const (
	nesting    = "__" // stands for the dot of a key
	fileSuffix = "_FILE"
	fileEnv    = EnvPrefix + "CONFIG" // names the YAML file
)

// variable is one variable of the environment.
type variable struct {
	value  string
	dotEnv bool
}

type environment struct {
	vars     map[string]variable
	dotEnv   string // path
	read     map[string]bool
	problems Problems
	notices  []Notice
}

// readEnvironment joins the .env file and the process's variables, which win.
func readEnvironment(env []string, dotEnv string) *environment {
	e := &environment{vars: map[string]variable{}, dotEnv: dotEnv, read: map[string]bool{}}
	if dotEnv != "" {
		e.readDotEnv(dotEnv)
	}
	for _, line := range env {
		if name, value, ok := strings.Cut(line, "="); ok && name != "" {
			e.vars[name] = variable{value: value}
		}
	}
	return e
}

func (e *environment) readDotEnv(path string) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	problem := Problem{Where: Origin{Source: SourceFile, Name: path}}
	if err != nil {
		problem.Reason = "read: " + cause(err)
		e.problems = append(e.problems, problem)
		return
	}
	vars, err := godotenv.UnmarshalBytes(data)
	if err != nil {
		// The parser's own text quotes the rest of the file, secrets included.
		problem.Where.Line = dotEnvLine(string(data), err)
		problem.Reason = "is not of the form NAME=value (quotes must be closed)"
		e.problems = append(e.problems, problem)
		return
	}
	for name, value := range vars {
		e.vars[name] = variable{value: value, dotEnv: true}
	}
}

// dotEnvLine finds the line of a parse error by the length of the rest that its
// text quotes; 0 when it has none.
func dotEnvLine(data string, err error) int {
	_, rest, ok := strings.Cut(err.Error(), " near ")
	if !ok {
		return 0
	}
	rest, unquoteErr := strconv.Unquote(rest)
	data = strings.ReplaceAll(data, "\r\n", "\n")
	if unquoteErr != nil || !strings.HasSuffix(data, rest) {
		return 0
	}
	return 1 + strings.Count(data, "\n") - strings.Count(rest, "\n")
}

// cause is the reason of a file error without the operation and the path.
func cause(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return err.Error()
}

func (e *environment) origin(name string) Origin {
	if e.vars[name].dotEnv {
		name += " (" + e.dotEnv + ")"
	}
	return Origin{Source: SourceEnv, Name: name}
}

func (e *environment) problem(name, key, reason string) {
	e.problems = append(e.problems, Problem{Where: e.origin(name), Key: key, Reason: reason})
}

// lookup returns a variable's value, or, for a secret, the content of the file
// that its _FILE twin names. Empty New API variables count as unset.
func (e *environment) lookup(name string, secret bool) (value, from string, ok bool) {
	v, set := e.vars[name]
	e.read[name] = true
	if !secret {
		return v.value, name, set
	}
	twin := name + fileSuffix
	e.read[twin] = true
	path := e.vars[twin].value
	if path == "" {
		return v.value, name, set
	}
	if v.value != "" {
		e.problem(twin, "", name+" is set as well: set one of the two")
		return "", name, false
	}
	data, err := readFile(path)
	if err != nil {
		e.problem(twin, "", fmt.Sprintf("read %s: %s", quote(path), cause(err)))
		return "", name, false
	}
	value = strings.TrimSpace(string(data))
	if value == "" {
		e.problem(twin, "", fmt.Sprintf("file %s is empty", quote(path)))
		return "", name, false
	}
	return value, twin, true
}

// ownSettings reads the SLUICE_SECTION__KEY variables.
func (e *environment) ownSettings(s *schema) []setting {
	var out []setting
	for i := range s.keys {
		k := &s.keys[i]
		value, from, ok := e.lookup(k.Env, k.Secret)
		if ok {
			out = append(out, setting{k.Name, value, e.origin(from)})
		}
	}
	e.unknownOwn(s)
	return out
}

// unknownOwn refuses misspelt variables. Names without nesting are only told,
// since Kubernetes makes SLUICE_SERVICE_HOST and the like for a service "sluice".
func (e *environment) unknownOwn(s *schema) {
	var names []string
	for name := range e.vars {
		if strings.HasPrefix(name, EnvPrefix) && !e.read[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		rest := strings.TrimPrefix(name, EnvPrefix)
		switch {
		case name == fileEnv, strings.HasPrefix(rest, "TEST_"), strings.HasPrefix(rest, "SERVICE_"), rest == "PORT", strings.HasPrefix(rest, "PORT_"):
		case strings.Contains(rest, nesting):
			key := strings.ToLower(strings.ReplaceAll(rest, nesting, "."))
			reason := "no such key: " + key
			if like := s.like(key); s.byName[like] != nil {
				reason += " (did you mean " + s.byName[like].Env + "?)"
			} else if k := s.byName[strings.TrimSuffix(key, "_file")]; k != nil {
				reason = k.Name + " is no secret and has no " + fileSuffix + " form: set " + k.Env
			}
			e.problem(name, "", reason)
		default:
			e.notices = append(e.notices, Notice{name, "has no meaning (a key's variable is " + EnvPrefix + "SECTION" + nesting + "KEY)"})
		}
	}
}

// newAPISettings reads New API's variables. now tells a key's value so far.
func (e *environment) newAPISettings(s *schema, now func(key string) string) []setting {
	var out []setting
	for _, n := range newAPINames() {
		k := s.byName[n.key]
		value, from, ok := e.lookup(n.name, k.Secret)
		if !ok || value == "" {
			continue
		}
		if _, set := e.vars[k.Env]; set {
			e.notices = append(e.notices, Notice{n.name, "is overruled by " + k.Env})
		}
		leaf, use, err := n.convert(value, now(n.key))
		if err != nil {
			e.problem(from, n.key, err.Error())
			continue
		}
		if use {
			out = append(out, setting{n.key, leaf, e.origin(from)})
		}
	}
	var ignored []string
	reasons := noEffect()
	for name, v := range e.vars {
		base := strings.TrimSuffix(name, fileSuffix)
		if reasons[base] != "" && v.value != "" {
			ignored = append(ignored, name)
		}
	}
	slices.Sort(ignored)
	for _, name := range ignored {
		e.notices = append(e.notices, Notice{name, "has no effect: " + reasons[strings.TrimSuffix(name, fileSuffix)]})
	}
	return out
}

// hostname is the default of node.name.
func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "sluice"
	}
	return name
}
