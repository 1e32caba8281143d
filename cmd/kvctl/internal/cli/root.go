package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
	"github.com/ringfort/ringfort/internal/version"
)

// flagValues is where cobra puts the flags that all verbs share.
type flagValues struct {
	endpoints []string
	context   string
	timeout   time.Duration
	output    string
}

// optional is the value of needsTarget for a verb that is of use without.
const optional = "optional"

// Annotations of commands.
const (
	needsTarget = "target"  // talks to a cluster: endpoints must be known, unless it is optional
	outputs     = "outputs" // what -o takes, separated by spaces; "table json" if absent
)

// allOutputs is for verbs that print lines of fields: raw has no header, no
// rounding and tabs between.
const allOutputs = "table json raw"

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kvctl",
		Short: "Control and use a Ringfort cluster",
		Long: `kvctl reads and writes keys of a Ringfort cluster, forms and shows clusters,
and runs whole clusters on this machine.

Start with:
  kvctl local up            three nodes, real processes, on free ports
  kvctl put hello world
  kvctl get hello`,
		Version:       version.String(),
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: a.prepare,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetVersionTemplate(versionText() + "\n")
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	f := root.PersistentFlags()
	f.StringSliceVar(&a.flags.endpoints, "endpoints", nil, "gRPC addresses of any nodes, host:port,… ($"+config.EnvEndpoints+")")
	f.StringVar(&a.flags.context, "context", "", "context of the context file to use ($"+config.EnvContext+")")
	f.DurationVar(&a.flags.timeout, "timeout", config.DefaultTimeout,
		"how long one operation, or silence of a scan, may take; import 30s, local and init 1m, verify 5m, 2s if all endpoints refuse ($"+config.EnvTimeout+")")
	f.StringVarP(&a.flags.output, "output", "o", config.DefaultOutput, "table, json, ndjson, raw or csv, as the verb has it ($"+config.EnvOutput+")")
	a.completeFlags(root)

	root.AddGroup(
		&cobra.Group{ID: "data", Title: "Data:"},
		&cobra.Group{ID: "clusters", Title: "Clusters:"},
		&cobra.Group{ID: "other", Title: "Other:"},
	)
	root.SetHelpCommandGroupID("other")
	group := func(id string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = id
			root.AddCommand(cmd)
		}
	}
	group("data", a.putCommand(), a.getCommand(), a.delCommand(), a.addCommand(),
		a.ttlCommand(), a.expireCommand(), a.persistCommand(), a.txnCommand(),
		a.scanCommand(), a.countCommand(), a.watchCommand(), a.deleteRangeCommand(),
		a.exportCommand(), a.importCommand(), a.benchCommand())
	group("clusters", a.clusterCommand(), a.nodeGroupCommand(), a.localCommand())
	group("other", a.completionCommand(), a.versionCommand())
	root.AddCommand(exitCodesTopic(), environmentTopic())
	parent(root)
	strictHelp(root)
	return root
}

// prepare resolves the settings before a verb runs.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	flags := config.Flags{Endpoints: a.flags.endpoints, Context: a.flags.context}
	if cmd.Flags().Changed("timeout") {
		flags.Timeout = &a.flags.timeout
	}
	if cmd.Flags().Changed("output") {
		flags.Output = &a.flags.output
	}
	var err, targetErr error
	a.settings, err = config.Resolve(flags, a.getenv)
	if want, needs := cmd.Annotations[needsTarget]; needs {
		if cmd.Flags().Changed("endpoints") && len(flags.Endpoints) == 0 {
			// As if it was not there, it would lead to some other cluster.
			return usageErrorf("kvctl help environment explains where settings come from", "--endpoints names no node")
		}
		targetErr = a.resolveTarget(flags)
		if want == optional && targetErr != nil {
			a.note("warning: %v", targetErr)
			targetErr = nil
		}
	}
	if err := errors.Join(err, targetErr); err != nil {
		return usageErrorf("kvctl help environment explains where settings come from", "%w", err)
	}
	return a.checkOutput(cmd)
}

func (a *app) resolveTarget(flags config.Flags) error {
	file := &config.File{}
	// A context file that is damaged or has no place matters only to those who
	// did not name their endpoints.
	if len(flags.Endpoints) == 0 && (flags.Context != "" || a.getenv(config.EnvEndpoints) == "") {
		path, err := config.Path(a.getenv)
		if err == nil {
			if file, err = config.Load(path); err != nil {
				return err
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && a.getenv(config.EnvConfig) != "" {
				// Whoever names a file does not mean the defaults.
				return fmt.Errorf("%s: there is no context file %s; kvctl local up would make it", config.EnvConfig, path)
			}
		} else if flags.Context != "" || a.getenv(config.EnvContext) != "" {
			return err
		}
	}
	var err error
	a.target, err = config.ResolveTarget(flags, a.getenv, file)
	return err
}

// checkOutput refuses a -o that the verb does not have. From the environment it
// is a wish for all verbs, and those that cannot follow print a table.
func (a *app) checkOutput(cmd *cobra.Command) error {
	known := "table json"
	if own, has := cmd.Annotations[outputs]; has {
		known = own
	}
	if slices.Contains(strings.Fields(known), a.settings.Output) {
		return nil
	}
	if a.settings.OutputGiven {
		return usageErrorf("", "%s has no -o %s, only: %s",
			cmd.CommandPath(), a.settings.Output, strings.ReplaceAll(known, " ", ", "))
	}
	a.settings.Output = config.DefaultOutput
	return nil
}

func flagError(cmd *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		return usageErrorf(cmd.CommandPath()+" --help explains the flags", "--%s: %q is not %s",
			bad.GetFlag().Name, bad.GetValue(), flagKind(bad.GetFlag().Value.Type()))
	}
	return usageErrorf(fmt.Sprintf("%s --help lists the flags; an argument that starts with - goes behind --", cmd.CommandPath()), "%w", err)
}

// flagKind says in words what a flag takes.
func flagKind(name string) string {
	switch name {
	case "duration":
		return "a duration such as 10s"
	case "int", "int64":
		return "a whole number"
	case "uint32", "uint64":
		return "a whole number from 0 on"
	case "float64":
		return "a number"
	case "bool":
		return "true or false"
	}
	return "a " + name
}

// parent makes a command that only has verbs say so when it is called without
// one or with one that does not exist.
func parent(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			cmd.SetOut(cmd.ErrOrStderr())
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("", "%s needs a verb", cmd.CommandPath())
		}
		return unknownVerb(cmd, args[0])
	}
}

func unknownVerb(of *cobra.Command, name string) error {
	hint := of.CommandPath() + " --help lists the verbs"
	if close := of.SuggestionsFor(name); len(close) > 0 {
		hint = "did you mean " + strings.Join(close, " or ") + "?"
	}
	return usageErrorf(hint, "unknown verb %q of %s", name, of.CommandPath())
}

// arguments wants exactly the named ones.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usageErrorf("usage: "+cmd.UseLine(), "%s takes %s, not %s", cmd.CommandPath(), wanted(names), countOf(len(args)))
	}
}

// atLeastOne wants one or more of the named ones.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return usageErrorf("usage: "+cmd.UseLine(), "%s takes %s, one or more", cmd.CommandPath(), name)
	}
}

func wanted(names []string) string {
	if len(names) == 0 {
		return "no argument"
	}
	return strings.Join(names, " ")
}

func countOf(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}
