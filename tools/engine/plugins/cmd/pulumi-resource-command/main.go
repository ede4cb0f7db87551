// Command pulumi-resource-command is a Pulumi plugin with one resource, command:local:Command.
//
// It stands in for the official plugin of the same name and version, whose Go module cannot be had by name. It is written from the documented and
// measured behaviour of that one, and is meant to be no safer than it: a test that passes here must not hide a leak that users would have.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	provider "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
)

const (
	packageName = "command"
	// packageVersion is the version of the Python SDK (pulumi_command) that this plugin serves; the engine wants the two equal.
	packageVersion = "1.2.1"
)

func newProvider() (provider.Provider, error) {
	return infer.NewProviderBuilder().WithResources(infer.Resource(Command{})).Build()
}

func main() {
	// The engine ends a plugin with SIGINT to the plugin's process group. Commands run in groups of their own, so the plugin passes it on.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, runningGroups.killAll)

	plugin, err := newProvider()
	if err == nil {
		err = plugin.Run(ctx, packageName, packageVersion)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
