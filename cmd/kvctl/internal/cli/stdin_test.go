package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// The first interrupt ends a command that waits for its standard input.
func TestInterruptEndsReadingOfStdin(t *testing.T) {
	input, output, err := os.Pipe() // nothing comes, and no end either
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	defer output.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan int)
	go func() {
		done <- Run(ctx, System{
			Args: []string{"put", "x", "-", "--endpoints", "127.0.0.1:1"}, Stdin: input, Stdout: io.Discard, Stderr: io.Discard,
			Getenv: func(string) string { return "" },
		})
	}()
	cancel(errInterrupted)
	if code := <-done; code != exitInterrupted {
		t.Errorf("put: exit code %d", code)
	}
	source, _, err := (&app{stdin: input}).openInput(ctx, "-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Read(make([]byte, 1)); !errors.Is(err, errInterrupted) {
		t.Errorf("import: %v", err)
	}
}

func TestInterruptibleReadsEverything(t *testing.T) {
	input, output, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	go func() {
		_, _ = output.WriteString(strings.Repeat("x", 100_000))
		output.Close()
	}()
	all, err := io.ReadAll(interruptible{t.Context(), input})
	if err != nil || len(all) != 100_000 {
		t.Errorf("%d bytes, %v", len(all), err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	if _, err := io.ReadAll(interruptible{ctx, strings.NewReader("x")}); !errors.Is(err, errInterrupted) {
		t.Error(err)
	}
}
