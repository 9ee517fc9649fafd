package cli

import "github.com/urfave/cli/v2"

func newVersion() *cli.Command {
	return &cli.Command{
		Name:         "version",
		Usage:        "print the version",
		OnUsageError: usageError,
		Action:       func(c *cli.Context) error { return printVersion(c, "skytools") },
	}
}
