package local

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/ringfort/ringfort/cluster/local/localtest"
	_ "github.com/ringfort/ringfort/internal/racebubble"
)

// starterVariable makes the test binary a caller that runs Up in the directory
// it names, and exits.
const starterVariable = "RINGFORT_TEST_STARTER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(starterVariable); dir != "" {
		os.Exit(starter(dir))
	}
	if _, is := os.LookupEnv(localtest.Env); is {
		os.Exit(localtest.Main())
	}
	goleak.VerifyTestMain(m)
}

func starter(dir string) int {
	os.Unsetenv(starterVariable)
	c, err := At(dir)
	if err == nil {
		_, err = c.Up(context.Background(), Config{Binary: os.Args[0], FirstPort: testPort})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
