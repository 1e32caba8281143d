package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/cluster/gossip"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/internal/version"
	"github.com/ringfort/ringfort/node"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/node/identity"
)

// Exit codes. Scripts and kvctl rely on them.
const (
	exitOK           = 0
	exitOther        = 1
	exitUsage        = 2 // flags or configuration
	exitLocked       = 3 // data directory in use
	exitAddressInUse = 4
	exitWrongCluster = 5 // or a format this build does not know
	exitDisk         = 6 // it failed
	exitHungDisk     = 7
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "" // then --name is required
	}
	command, args, err := subcommand(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kvnode:", err)
		return exitUsage
	}
	cfg, origins, err := config.Explain(args, config.Sources{
		Env: os.LookupEnv, EnvNames: envNames, ReadFile: os.ReadFile, Hostname: hostname,
	})
	var faults config.Faults
	switch {
	case errors.Is(err, config.ErrHelp):
		if config.WriteHelp(os.Stdout) != nil {
			return exitOther
		}
		return exitOK
	case errors.Is(err, config.ErrVersion):
		fmt.Println("kvnode " + version.String())
		return exitOK
	case errors.As(err, &faults):
		for _, f := range faults {
			fmt.Fprintln(os.Stderr, "kvnode: "+f)
		}
		fmt.Fprintln(os.Stderr, "kvnode: see kvnode --help")
		return exitUsage
	}
	switch command {
	case "config check":
		fmt.Println("the configuration is good")
		return exitOK
	case "config show":
		return show(origins)
	}
	level := new(slog.LevelVar)
	logger := newLogger(cfg, level)
	if err := serve(cfg, logger, level); err != nil {
		logger.Error("kvnode ends", "error", err)
		return exitCode(err)
	}
	return exitOK
}

func envNames() []string {
	var names []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	return names
}

// subcommand takes the words off that come before the flags.
func subcommand(args []string) (command string, rest []string, err error) {
	if len(args) == 0 || args[0] != "config" {
		return "", args, nil
	}
	verb := ""
	if len(args) > 1 {
		verb = args[1]
	}
	switch verb {
	case "check", "show":
		return "config " + verb, args[2:], nil
	case "--help", "-help", "-h":
		return "", args[1:], nil
	}
	return "", nil, errors.New("config needs a verb: kvnode config check [flags] says what is wrong with flags, variables " +
		"and file, kvnode config show [flags] prints every setting and where it came from")
}

// show prints the settings in the form of a configuration file. Those that nobody has
// set and that have no default value are comments.
func show(origins []config.Origin) int {
	for _, o := range origins {
		line := fmt.Sprintf("%s: %q", o.Name, o.Value)
		if o.Unset {
			line = "# " + o.Name + ":"
		}
		if _, err := fmt.Printf("%-40s # %s\n", line, o.Source); err != nil {
			return exitOther
		}
	}
	return exitOK
}

// serve runs the node until SIGINT or SIGTERM; a second signal ends the process
// at once.
func serve(cfg *config.Config, logger *slog.Logger, level *slog.LevelVar) error {
	n, err := node.New(*cfg, machine(logger, level))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal has its default effect
	return n.Run(ctx)
}

// machine is the real world.
func machine(logger *slog.Logger, level *slog.LevelVar) node.Deps {
	dialer := &net.Dialer{}
	return node.Deps{
		FS:     vfs.Default,
		Clock:  clock.NewSystem(),
		Random: rand.Reader,
		Listen: func(address string) (net.Listener, error) { return net.Listen("tcp", address) },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		},
		StartGossip: func(o gossip.Options) (node.Gossip, error) {
			g, err := gossip.Start(o)
			if err != nil {
				return nil, err // not a nil *Gossip inside an interface
			}
			return g, nil
		},
		Fatal: func(err error) {
			// P10: whatever is in flight stays unanswered, so nothing that the disk
			// may not hold is acknowledged. Whoever reads the log may be stuck on the
			// same disk, and is not waited for.
			said := make(chan struct{})
			go func() {
				defer close(said)
				logger.Error("disk failure: kvnode ends at once", "error", err)
			}()
			select {
			case <-said:
			case <-time.After(lastWords):
			}
			os.Exit(fatalCode(err))
		},
		Logger:   logger,
		LogLevel: level,
		Version:  version.Get().Version,
	}
}

// lastWords is how long the log may take the reason of a Fatal.
const lastWords = time.Second

// fatalCode is the exit code for the reason of a Fatal.
func fatalCode(err error) int {
	if node.HungDisk(err) {
		return exitHungDisk
	}
	return exitDisk
}

// newLogger logs from level on, which it sets as configured and which may be
// changed later.
func newLogger(cfg *config.Config, level *slog.LevelVar) *slog.Logger {
	level.Set(cfg.LogLevel)
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, options)
	if cfg.LogFormat == "json" {
		handler = slog.NewJSONHandler(os.Stderr, options)
	}
	return slog.New(handler).With("node", cfg.Name)
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, identity.ErrLocked):
		return exitLocked
	case errors.Is(err, syscall.EADDRINUSE):
		return exitAddressInUse
	case errors.Is(err, kverr.WrongCluster), errors.Is(err, kverr.Format):
		return exitWrongCluster
	case errors.Is(err, kverr.Invalid):
		return exitUsage
	}
	for _, disk := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT} {
		if errors.Is(err, disk) {
			return exitDisk
		}
	}
	return exitOther
}
