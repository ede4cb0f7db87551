// Command pulumi-resource-random serves the Terraform random provider as a Pulumi plugin.
package main

import (
	"context"
	_ "embed"

	pf "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"

	"molecule-secrets.invalid/tools/engine/plugins/internal/random"
)

//go:embed schema.json
var schema []byte

func main() {
	pf.Main(context.Background(), "random", random.Info(), pf.ProviderMetadata{PackageSchema: schema})
}
