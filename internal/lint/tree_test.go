package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/ringfort/ringfort"

// file is one .go file of the module, whatever its build tags.
type file struct {
	path string // from the module's root, with slashes
	src  []byte
	fset *token.FileSet
	ast  *ast.File
}

func (f *file) dir() string  { return path.Dir(f.path) }
func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// at is a position for a message.
func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}

// imports reports whether the file imports a package or one below it.
func (f *file) imports(importPath string) bool {
	for _, spec := range f.ast.Imports {
		if p := strings.Trim(spec.Path.Value, `"`); p == importPath || strings.HasPrefix(p, importPath+"/") {
			return true
		}
	}
	return false
}

// pkg is what `go list` says about a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// area is the import path within the module.
func (p *pkg) area() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

func parse(name string, src []byte) (*file, error) {
	f := &file{path: name, src: src, fset: token.NewFileSet()}
	var err error
	f.ast, err = parser.ParseFile(f.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

var loadFiles = sync.OnceValues(func() ([]*file, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	var files []*file
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			base := entry.Name()
			if rel != "." && (base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && rel != "." {
				return fs.SkipDir // another module
			}
			return nil
		}
		if filepath.Ext(name) != ".go" || !entry.Type().IsRegular() {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := parse(filepath.ToSlash(rel), src)
		files = append(files, f)
		return err
	})
	return files, err
})

var loadPackages = sync.OnceValues(func() ([]*pkg, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, &stderr)
	}
	var pkgs []*pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		pkgs = append(pkgs, p)
	}
})

// allFiles returns every file, and allPackages every package, of the module.
func allFiles(t *testing.T) []*file {
	t.Helper()
	files, err := loadFiles()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no files: the lint would pass on anything")
	}
	return files
}

func allPackages(t *testing.T) []*pkg {
	t.Helper()
	pkgs, err := loadPackages()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) == 0 {
		t.Fatal("found no packages: the lint would pass on anything")
	}
	return pkgs
}

// rule looks at one file and returns what is wrong with it.
type rule func(*file) []string

// check runs a rule over the module.
func check(t *testing.T, r rule) {
	t.Helper()
	for _, f := range allFiles(t) {
		for _, message := range r(f) {
			t.Error(message)
		}
	}
}

// snippet is a file on which a rule is tested.
type snippet struct {
	name, path, src string
	wrong           int // messages expected
}

func checkSnippets(t *testing.T, r rule, snippets []snippet) {
	t.Helper()
	for _, s := range snippets {
		f, err := parse(s.path, []byte(s.src))
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got := r(f); len(got) != s.wrong {
			t.Errorf("%s: got %d messages, want %d: %q", s.name, len(got), s.wrong, got)
		}
	}
}
