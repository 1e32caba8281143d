package cli

import (
	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

// strictHelp makes `kvctl help` refuse what it has no help for: cobra's prints
// the usage of kvctl and calls it a success.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "help" {
			continue
		}
		cmd.Run = nil
		cmd.RunE = func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 && about.HasSubCommands() {
				return unknownVerb(about, rest[0])
			}
			if err != nil {
				return err
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		}
	}
}

// A command without a Run is a help topic: `kvctl help exit-codes`.

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesHelp}
}

func environmentTopic() *cobra.Command {
	return &cobra.Command{Use: "environment", Short: "Where settings come from", Long: environmentHelp}
}

const environmentHelp = `Settings come from flags, else the environment, else the context file, else
defaults.

  flag         environment           context file  default
  --endpoints  ` + config.EnvEndpoints + `    endpoints     ` + config.DefaultEndpoint + `
  --context    ` + config.EnvContext + `      current
  --timeout    ` + config.EnvTimeout + `                    10s
  -o           ` + config.EnvOutput + `                     ` + config.DefaultOutput + `

--context outranks ` + config.EnvEndpoints + `.

The context file is ` + config.EnvConfig + `, else ringfort/config.json in the user's
configuration directory ($XDG_CONFIG_HOME, or ~/.config). It holds named
contexts:

  {"format": 1, "current": "lab",
   "contexts": {"lab": {"endpoints": ["10.0.0.1:7401", "10.0.0.2:7401"]}}}

A context may have a "cluster_id": then a node of another cluster is refused.

kvctl local up adds the context "local" and makes it current. kvctl local down
gives it back to the local cluster that had it before, or else removes it and
makes the former context current again. last_local_dir is the directory that
kvctl local up goes back to.`
