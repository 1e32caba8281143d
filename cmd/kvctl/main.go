// Command kvctl controls and uses Ringfort clusters.
package main

import (
	"os"

	"github.com/ringfort/ringfort/cmd/kvctl/internal/cli"
)

func main() { os.Exit(cli.Main()) }
