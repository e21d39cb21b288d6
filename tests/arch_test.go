package tests

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sluice-gateway/sluice"

// floors are the rooms of DESIGN, lowest first. A package belongs to the
// longest name that is a prefix of its path, may import its own room and lower
// floors, and never another room of its own floor.
var floors = [][]string{
	{"sdk/abi", "core/llm", "configs"},
	{"core"},
	{"core/telemetry"},
	{"core/config", "core/store", "core/redis", "core/inmem", "core/provider",
		"core/llm/openai", "core/llm/responses", "core/llm/claude", "core/llm/gemini", "sdk"},
	{"core/relay", "core/cluster", "core/ledger", "core/console"},
	{"core/web", "wasm", "plugins"},
	{"core/app"},
	{"cmd"},
}

// doors are the rooms that alone may import a library.
var doors = map[string][]string{
	"github.com/labstack/echo":      {"core/web"},
	"github.com/uptrace/bun":        {"core/store"},
	"github.com/redis/rueidis":      {"core/redis"},
	"github.com/tetratelabs/wazero": {"wasm"},
	"github.com/knadh/koanf":        {"core/config"},
}

// bounds are what the lowest rooms may import from outside the standard library.
var bounds = map[string][]string{
	"core":     {},
	"core/llm": {"github.com/tidwall/gjson", "github.com/tidwall/sjson"},
	"sdk":      {},
	"sdk/abi":  {},
}

var badNames = []string{"common", "util", "utils", "helper", "helpers", "types", "dto", "service", "services", "manager", "base", "misc"}

type goPackage struct {
	ImportPath, Dir, Name              string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports []string
}

// path is the package's path inside the module.
func (p *goPackage) path() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// host reports whether the package is part of the running gateway.
func (p *goPackage) host() bool {
	return !strings.HasPrefix(p.path(), "tests") && !strings.HasPrefix(p.path(), "plugins/")
}

// testing reports whether the package is a library of tests, such as storetest.
func (p *goPackage) testing() bool { return strings.HasSuffix(p.Name, "test") }

func packages(t *testing.T) []*goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Name,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var list []*goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, &p)
	}
}

func within(path, room string) bool { return path == room || strings.HasPrefix(path, room+"/") }

// room finds the room of a path inside the module, and its floor; -1 = none.
func room(path string) (name string, floor int) {
	floor = -1
	for i, rooms := range floors {
		for _, r := range rooms {
			if within(path, r) && len(r) > len(name) {
				name, floor = r, i
			}
		}
	}
	return name, floor
}

func TestRoomIsTheLongestPrefix(t *testing.T) {
	for path, want := range map[string]string{
		"core": "core", "core/llm": "core/llm", "core/llm/claude": "core/llm/claude", "core/store/storetest": "core/store",
		"core/web": "core/web", "sdk/abi": "sdk/abi", "sdk/plugintest": "sdk", "tests/e2e": "",
	} {
		if got, _ := room(path); got != want {
			t.Errorf("room(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestImportsGoDownwards(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.path(), "tests") {
			continue
		}
		name, floor := room(p.path())
		if floor < 0 || (name == "core" && p.path() != "core") {
			t.Errorf("%s: a package of no room; DESIGN has no place for it", p.path())
			continue
		}
		for _, imp := range p.Imports {
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				continue
			}
			to := strings.TrimPrefix(imp, module+"/")
			other, below := room(to)
			if other != name && below >= floor {
				t.Errorf("%s imports %s: imports go downwards only", p.path(), to)
			}
			if strings.HasPrefix(to, "tests") {
				t.Errorf("%s imports %s", p.path(), to)
			}
			if strings.HasSuffix(to, "test") && !p.testing() {
				t.Errorf("%s imports the test library %s outside a test", p.path(), to)
			}
		}
	}
}

func TestLibrariesHaveOneDoor(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for library, rooms := range doors {
				if within(imp, library) && !slices.ContainsFunc(rooms, func(r string) bool { return within(p.path(), r) }) {
					t.Errorf("%s imports %s: only %s may", p.path(), imp, strings.Join(rooms, ", "))
				}
			}
		}
		allowed, bounded := bounds[p.path()]
		if !bounded {
			continue
		}
		for _, imp := range p.Imports {
			outside := strings.Contains(strings.Split(imp, "/")[0], ".") && !strings.HasPrefix(imp, module)
			if outside && !slices.Contains(allowed, imp) {
				t.Errorf("%s imports %s", p.path(), imp)
			}
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(badNames, p.Name) || slices.Contains(badNames, filepath.Base(p.path())) {
			t.Errorf("%s: the name says nothing", p.path())
		}
	}
}

// source is one parsed package without its tests.
type source struct {
	pkg   *goPackage
	fset  *token.FileSet
	files []*ast.File
}

func parse(t *testing.T, p *goPackage, names []string) source {
	t.Helper()
	s := source{pkg: p, fset: token.NewFileSet()}
	for _, name := range names {
		f, err := parser.ParseFile(s.fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, f)
	}
	return s
}

func (s source) at(n ast.Node) string {
	pos := s.fset.Position(n.Pos())
	return s.pkg.path() + "/" + filepath.Base(pos.Filename) + ":" + itoa(pos.Line)
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// calls finds selections of one of the named members of a package.
func (s source) calls(path string, members ...string) []ast.Node {
	var out []ast.Node
	for _, f := range s.files {
		local := ""
		for _, imp := range f.Imports {
			if strings.Trim(imp.Path.Value, `"`) == path {
				local = path[strings.LastIndex(path, "/")+1:]
				if imp.Name != nil {
					local = imp.Name.Name
				}
			}
		}
		if local == "" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == local && slices.Contains(members, sel.Sel.Name) {
				out = append(out, sel)
			}
			return true
		})
	}
	return out
}

func TestEnvironmentIsReadInConfigOnly(t *testing.T) {
	for _, p := range packages(t) {
		if !p.host() || p.testing() || within(p.path(), "core/config") {
			continue
		}
		s := parse(t, p, p.GoFiles)
		for _, n := range s.calls("os", "Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv") {
			t.Errorf("%s: the environment belongs to core/config", s.at(n))
		}
		for _, n := range s.calls("syscall", "Getenv", "Environ") {
			t.Errorf("%s: the environment belongs to core/config", s.at(n))
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, p := range packages(t) {
		if !p.host() {
			continue
		}
		s := parse(t, p, p.GoFiles)
		for _, f := range s.files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: no init functions", s.at(fn))
				}
			}
		}
	}
}

// noPackages makes go/types check a package without its imports: identifiers of
// the package itself still resolve.
type noPackages struct{}

func (noPackages) Import(path string) (*types.Package, error) {
	return nil, errors.New("not imported")
}

// TestPackageVariablesAreTables: a package-level variable is never assigned,
// incremented, deleted from or pointed at, and is no lock, counter or once.
func TestPackageVariablesAreTables(t *testing.T) {
	for _, p := range packages(t) {
		if !p.host() {
			continue
		}
		s := parse(t, p, p.GoFiles)
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
		conf := types.Config{Importer: noPackages{}, Error: func(error) {}}
		pkg, _ := conf.Check(p.ImportPath, s.fset, s.files, info)
		if pkg == nil {
			t.Fatalf("%s: not checked", p.path())
		}
		packageVar := func(e ast.Expr) string {
			for {
				switch x := e.(type) {
				case *ast.IndexExpr:
					e = x.X
				case *ast.SelectorExpr:
					e = x.X
				case *ast.ParenExpr:
					e = x.X
				case *ast.StarExpr:
					e = x.X
				case *ast.Ident:
					if v, ok := info.Uses[x].(*types.Var); ok && v.Parent() == pkg.Scope() {
						return x.Name
					}
					return ""
				default:
					return ""
				}
			}
		}
		check := func(n ast.Node, e ast.Expr) {
			if name := packageVar(e); name != "" {
				t.Errorf("%s: package-level %s is changed or pointed at", s.at(n), name)
			}
		}
		for _, f := range s.files {
			ast.Inspect(f, func(n ast.Node) bool {
				switch x := n.(type) {
				case *ast.AssignStmt:
					if x.Tok != token.DEFINE {
						for _, l := range x.Lhs {
							check(x, l)
						}
					}
				case *ast.IncDecStmt:
					check(x, x.X)
				case *ast.UnaryExpr:
					if x.Op == token.AND {
						check(x, x.X)
					}
				case *ast.CallExpr:
					if id, ok := x.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(x.Args) > 0 {
						check(x, x.Args[0])
					}
				}
				return true
			})
			for _, d := range f.Decls {
				gen, ok := d.(*ast.GenDecl)
				if !ok || gen.Tok != token.VAR {
					continue
				}
				for _, spec := range gen.Specs {
					v := spec.(*ast.ValueSpec)
					if kind := stateful(v); kind != "" {
						t.Errorf("%s: package-level %s holds a %s", s.at(v), v.Names[0].Name, kind)
					}
				}
			}
		}
	}
}

// stateful names the kind of lock, counter or once that a variable is; "" = none.
// A sync.Pool and a sync.OnceValue have no state that a caller could see.
func stateful(v *ast.ValueSpec) string {
	typ := v.Type
	if typ == nil && len(v.Values) > 0 {
		if lit, ok := v.Values[0].(*ast.CompositeLit); ok {
			typ = lit.Type
		}
	}
	if x, ok := typ.(*ast.IndexExpr); ok { // atomic.Pointer[T]
		typ = x.X
	}
	sel, ok := typ.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok || (id.Name != "sync" && id.Name != "atomic") || sel.Sel.Name == "Pool" {
		return ""
	}
	return id.Name + "." + sel.Sel.Name
}

// TestEveryPackageSaysWhatItIs: a package comment, and a comment on every
// exported name.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if !p.host() || len(p.GoFiles) == 0 {
			continue
		}
		s := parse(t, p, p.GoFiles)
		if !slices.ContainsFunc(s.files, func(f *ast.File) bool { return f.Doc != nil }) {
			t.Errorf("%s: no package comment", p.path())
		}
		if p.Name == "main" {
			continue
		}
		for _, f := range s.files {
			for _, d := range f.Decls {
				for _, n := range undocumented(d) {
					t.Errorf("%s: exported %s has no comment", s.at(n), n.Name)
				}
			}
		}
	}
}

func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		if d.Doc != nil {
			return nil
		}
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Doc == nil && spec.Comment == nil && spec.Name.IsExported() {
					names = append(names, spec.Name)
				}
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					if spec.Doc == nil && spec.Comment == nil && n.IsExported() {
						names = append(names, n)
					}
				}
			}
		}
	}
	return names
}

func receiverExported(recv *ast.FieldList) bool {
	typ := recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// TestNothingIsSkipped: a test that does not run is no test.
func TestNothingIsSkipped(t *testing.T) {
	for _, p := range packages(t) {
		s := parse(t, p, slices.Concat(p.TestGoFiles, p.XTestGoFiles))
		for _, f := range s.files {
			ast.Inspect(f, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if id, ok := sel.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "tb"}, id.Name) &&
						slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
						t.Errorf("%s: tests never skip", s.at(sel))
					}
				}
				return true
			})
		}
	}
}
