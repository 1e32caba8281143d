package cli

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a completion script for a shell",
		Example: `  source <(kvctl completion bash)
  kvctl completion zsh > "${fpath[1]}/_kvctl"
  kvctl completion fish > ~/.config/fish/completions/kvctl.fish`,
		Args:      arguments("bash|zsh|fish"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.stdout)
			case "fish":
				return cmd.Root().GenFishCompletion(a.stdout, true)
			}
			return usageErrorf("usage: "+cmd.UseLine(), "no completion for shell %q", args[0])
		},
	}
}

// completeFlags makes the shell offer values of the shared flags.
func (a *app) completeFlags(root *cobra.Command) {
	values := func(list func() []string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return list(), cobra.ShellCompDirectiveNoFileComp
		}
	}
	offer := map[string]func() []string{
		"output":    func() []string { return config.Outputs },
		"context":   a.contextNames,
		"endpoints": func() []string { return nil },
		"timeout":   func() []string { return []string{"1s", "10s", "1m"} },
	}
	for name, list := range offer {
		if err := root.RegisterFlagCompletionFunc(name, values(list)); err != nil {
			panic(err) // the flag does not exist: a mistake in this file
		}
	}
}

// complete makes the shell offer values of a verb's own flag.
func complete(cmd *cobra.Command, flag string, values []string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist: a mistake in this package
	}
}

func (a *app) contextNames() []string {
	path, err := config.Path(a.getenv)
	if err != nil {
		return nil
	}
	file, err := config.Load(path)
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(file.Contexts))
}

// completeNodes offers the nodes of the local cluster that are not named yet.
func (a *app) completeNodes(f *localFlags) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, err := f.cluster(a)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, err := c.Names()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
