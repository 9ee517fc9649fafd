// Command skytools is the one binary of the sidecars. It answers to the name
// that it is called by: skytools COMMAND, or a link named COMMAND.
package main

import (
	"os"

	"goworkers/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Stdout, os.Stderr))
}
