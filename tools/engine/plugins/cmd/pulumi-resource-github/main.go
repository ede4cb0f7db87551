// Command pulumi-resource-github serves the Terraform GitHub provider as a Pulumi plugin.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"

	"molecule-secrets.invalid/tools/engine/plugins/internal/github"
)

//go:embed schema.json
var schema []byte

func main() { tfbridge.Main("github", github.Version, github.Info(), schema) }
