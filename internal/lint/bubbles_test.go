package lint

import "testing"

const racebubble = module + "/internal/racebubble"

// unprotected finds directories that open bubbles of testing/synctest and whose
// test process is not kept to one P under the race detector. One file that
// imports racebubble protects its directory: they become one process.
func unprotected(files []*file) (messages []string) {
	protected := map[string]bool{"internal/racebubble": true}
	for _, f := range files {
		if f.imports(racebubble) {
			protected[f.dir()] = true
		}
	}
	for _, f := range files {
		if f.imports("testing/synctest") && !protected[f.dir()] {
			messages = append(messages, f.path+": bubbles can crash the race detector when two cores run them: "+
				"import _ \""+racebubble+"\" in a test of this directory")
		}
	}
	return messages
}

func TestBubblesAreKeptToOneP(t *testing.T) {
	for _, message := range unprotected(allFiles(t)) {
		t.Error(message)
	}
	bubble := `package a; import _ "testing/synctest"`
	guard := `package a; import _ "` + racebubble + `"`
	for _, tc := range []struct {
		name  string
		files map[string]string
		wrong int
	}{
		{"no bubble", map[string]string{"a/a_test.go": `package a; import _ "testing"`}, 0},
		{"alone", map[string]string{"a/a_test.go": bubble}, 1},
		{"two files", map[string]string{"a/a_test.go": bubble, "a/b_test.go": bubble}, 2},
		{"protected", map[string]string{"a/a_test.go": bubble, "a/main_test.go": guard}, 0},
		{"elsewhere", map[string]string{"a/a_test.go": bubble, "a/b/main_test.go": guard}, 1},
		{"not a test", map[string]string{"a/a.go": bubble}, 1},
	} {
		var files []*file
		for path, src := range tc.files {
			f, err := parse(path, []byte(src))
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			files = append(files, f)
		}
		if got := unprotected(files); len(got) != tc.wrong {
			t.Errorf("%s: got %d messages, want %d: %q", tc.name, len(got), tc.wrong, got)
		}
	}
}
