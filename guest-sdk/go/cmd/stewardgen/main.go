// Command stewardgen reads the source of a plugin and writes what Go's reflection does not know of it: documentation, names of
// parameters, the order of methods. `steward build` runs it; its output goes to the compiler and nowhere else.
//
//	stewardgen [FOLDER]
package main

import (
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"steward.dev/guest/internal/names"
)

func main() {
	folder := "."
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	source, err := generate(folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stewardgen:", err)
		os.Exit(1)
	}
	os.Stdout.Write(source)
}

// importPath is that of the SDK.
const importPath = "steward.dev/guest"

// kind is a registered type.
type kind struct {
	name, constructor string
	doc               string
	params            []string
	methods           []method
}

type method struct {
	name, doc string
	params    []string
}

// generate gives the source of steward_gen.go for the package in a folder.
func generate(folder string) ([]byte, error) {
	isSource := func(info fs.FileInfo) bool {
		return !strings.HasSuffix(info.Name(), "_test.go") && info.Name() != "steward_gen.go"
	}
	packages, err := parser.ParseDir(token.NewFileSet(), folder, isSource, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	// By name, as the compiler takes them, so that the order of methods is that of the files.
	var files []*ast.File
	var name string
	for _, pkg := range packages {
		name = pkg.Name
		for _, path := range slices.Sorted(maps.Keys(pkg.Files)) {
			files = append(files, pkg.Files[path])
		}
	}
	if len(packages) != 1 {
		return nil, fmt.Errorf("%s has %d packages, not one", folder, len(packages))
	}
	kinds := registered(files)
	if len(kinds) == 0 {
		return nil, fmt.Errorf("nothing in %s calls guest.Register[T]", folder)
	}
	for at := range kinds {
		kinds[at].read(files)
	}
	return write(name, kinds)
}

// registered finds guest.Register[T](version, constructor, …), in the order of the source.
func registered(files []*ast.File) (kinds []kind) {
	for _, file := range files {
		sdk := ""
		for _, imported := range file.Imports {
			if strings.Trim(imported.Path.Value, "`\"") == importPath {
				sdk = "guest"
				if imported.Name != nil {
					sdk = imported.Name.Name
				}
			}
		}
		ast.Inspect(file, func(node ast.Node) bool {
			call, is := node.(*ast.CallExpr)
			if !is || sdk == "" || len(call.Args) < 2 {
				return true
			}
			instance, is := call.Fun.(*ast.IndexExpr)
			if !is {
				return true
			}
			function, is := instance.X.(*ast.SelectorExpr)
			if !is || function.Sel.Name != "Register" || identifier(function.X) != sdk {
				return true
			}
			kinds = append(kinds, kind{name: identifier(instance.Index), constructor: identifier(call.Args[1])})
			return true
		})
	}
	return kinds
}

func identifier(expression ast.Expr) string {
	if name, is := expression.(*ast.Ident); is {
		return name.Name
	}
	return ""
}

// read gathers what the source says of a type.
func (k *kind) read(files []*ast.File) {
	for _, file := range files {
		for _, declared := range file.Decls {
			switch declared := declared.(type) {
			case *ast.GenDecl:
				for _, spec := range declared.Specs {
					if typ, is := spec.(*ast.TypeSpec); is && typ.Name.Name == k.name {
						doc := typ.Doc
						if doc == nil {
							doc = declared.Doc
						}
						k.doc = documentation(doc, k.name)
					}
				}
			case *ast.FuncDecl:
				switch {
				case declared.Recv == nil && declared.Name.Name == k.constructor:
					k.params = parameters(declared.Type)
				case declared.Recv != nil && declared.Name.IsExported() && receiver(declared) == k.name:
					k.methods = append(k.methods, method{
						declared.Name.Name, documentation(declared.Doc, declared.Name.Name), parameters(declared.Type),
					})
				}
			}
		}
	}
}

func receiver(function *ast.FuncDecl) string {
	typ := function.Recv.List[0].Type
	if pointer, is := typ.(*ast.StarExpr); is {
		typ = pointer.X
	}
	return identifier(typ)
}

// parameters are the names of a function's parameters in snake_case, but for a context.
func parameters(function *ast.FuncType) (found []string) {
	for at, field := range function.Params.List {
		if at == 0 && isContext(field.Type) {
			continue
		}
		for _, name := range field.Names {
			found = append(found, names.Snake(name.Name))
		}
		if len(field.Names) == 0 {
			found = append(found, "_")
		}
	}
	return found
}

func isContext(typ ast.Expr) bool {
	pointer, is := typ.(*ast.StarExpr)
	if !is {
		return false
	}
	selected, is := pointer.X.(*ast.SelectorExpr)
	return is && selected.Sel.Name == "Context"
}

// documentation is a doc comment as clients read it. Go's comments begin with the name of what they describe, which is
// another on the wire: "Acquire takes the lock." becomes "Takes the lock.", "Free says whether …" "Says whether …" and
// "Lock is a lock." "A lock.".
func documentation(comment *ast.CommentGroup, name string) string {
	text := strings.TrimSpace(comment.Text())
	rest, named := strings.CutPrefix(text, name+" ")
	if !named {
		return text
	}
	for _, verb := range []string{"is ", "are ", "reports "} {
		if after, has := strings.CutPrefix(rest, verb); has {
			rest = after
			break
		}
	}
	first, size := utf8.DecodeRuneInString(rest)
	return string(unicode.ToUpper(first)) + rest[size:]
}

func write(name string, kinds []kind) ([]byte, error) {
	var out strings.Builder
	fmt.Fprintf(&out, "// Code generated by stewardgen. DO NOT EDIT.\n\npackage %s\n\nimport %q\n\n", name, importPath)
	out.WriteString("func init() { guest.Source(stewardSource) }\n\nvar stewardSource = []guest.Text{\n")
	for _, k := range kinds {
		fmt.Fprintf(&out, "{Type: %q, Doc: %q, Params: %s, Methods: []guest.MethodText{\n", k.name, k.doc, list(k.params))
		for _, m := range k.methods {
			fmt.Fprintf(&out, "{Name: %q, Doc: %q, Params: %s, Function: (*%s).%s},\n",
				m.name, m.doc, list(m.params), k.name, m.name)
		}
		out.WriteString("}},\n")
	}
	out.WriteString("}\n")
	return format.Source([]byte(out.String()))
}

func list(names []string) string {
	if len(names) == 0 {
		return "nil"
	}
	return fmt.Sprintf("%#v", names)
}
