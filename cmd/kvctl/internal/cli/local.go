package cli

import (
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cluster/local"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

// defaultLocalDir is where a local cluster lives that nobody chose a place for.
const defaultLocalDir = ".ringfort-local"

// localTimeout is how long a verb of local may take unless --timeout says
// otherwise.
const localTimeout = 60 * time.Second

// localFlags are shared by the verbs of local.
type localFlags struct{ dir string }

func (a *app) localCommand() *cobra.Command {
	var f localFlags
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Run a cluster of real processes on this machine",
		Long: `Run a cluster of real processes on this machine: kill -9 of one of its nodes is
as real as anywhere. Nodes are named n1, n2, … and outlive kvctl.

Everything about a cluster is in one directory: --dir, else the one that the
context "local" leads to, else the one that was up last and kept its data, else
` + defaultLocalDir + ` here. Every verb names the directory that it acted on.`,
	}
	cmd.PersistentFlags().StringVar(&f.dir, "dir", "", "directory of the cluster")
	cmd.AddCommand(
		a.localUpCommand(&f), a.localDownCommand(&f), a.localStatusCommand(&f), a.localLogsCommand(&f),
		a.localKillCommand(&f), a.localPauseCommand(&f), a.localResumeCommand(&f), a.localRestartCommand(&f),
	)
	parent(cmd)
	return cmd
}

// cluster is the local cluster that the flags mean.
func (f *localFlags) cluster(a *app) (*local.Cluster, error) {
	c, _, err := f.find(a)
	return c, err
}

// find is cluster, and says whether it only was the last one that was up.
func (f *localFlags) find(a *app) (c *local.Cluster, last bool, err error) {
	if f.dir != "" {
		a.localDir = f.dir
		c, err = local.At(f.dir)
		return c, false, err
	}
	if path, err := config.Path(a.getenv); err == nil {
		// A damaged file is reported when it is written, and matters no more here
		// than no file.
		if file, err := config.Load(path); err == nil {
			if c := existing(file.LocalDir()); c != nil {
				return c, false, nil
			}
			if c := existing(file.LastLocalDir); c != nil {
				return c, true, nil
			}
		}
	}
	c, err = local.At(defaultLocalDir)
	return c, false, err
}

// existing is the cluster in dir, nil if there is none.
func existing(dir string) *local.Cluster {
	if c, err := local.At(dir); err == nil && c.Exists() {
		return c
	}
	return nil
}

// localHint is a command line for a hint, about the same cluster.
func (a *app) localHint(verb string) string {
	if a.localDir == "" {
		return "kvctl local " + verb
	}
	return "kvctl local " + verb + " --dir " + shellQuote(a.localDir)
}

// shellQuote makes text one word of a shell, as it is if it is one already.
func shellQuote(text string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/._-+,:=@%", r))
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (a *app) localTimeout() time.Duration {
	if a.settings.TimeoutGiven {
		return a.settings.Timeout
	}
	return localTimeout
}

// changeContext applies a change to the context file. That it cannot be written
// does not undo what was done to the cluster, so it is only noted.
func (a *app) changeContext(change func(*config.File) bool) (changed bool) {
	path, err := config.Path(a.getenv)
	if err == nil {
		err = config.Update(path, func(file *config.File) bool {
			changed = change(file)
			return changed
		})
	}
	if err != nil {
		a.note("warning: the context file was not changed: %v", err)
		return false
	}
	return changed
}
