// Package lint is a test: what reviewers of this module would otherwise have to
// say again and again. It asserts the direction of imports, package comments,
// calls that are forbidden here, gofmt, and the marks of generated files; each
// message names what to do instead.
//
// It looks at source text and at what `go list` says, runs offline, and takes a
// second or two. A rule is a table entry or a small function over one file, and
// every rule is itself tested on a snippet that breaks it. There is no way to
// switch a rule off for one line: where a rule is wrong, change the rule.
//
// To add a package in a new place, give its area a line in directions
// (imports_test.go).
package lint
