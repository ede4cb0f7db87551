// Command genschema writes the Pulumi schemas that the bridged plugins embed. Run it in the module's root.
package main

//go:generate go -C ../.. run ./internal/genschema

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	pftfgen "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfgen"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfgen"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"

	"molecule-secrets.invalid/tools/engine/plugins/internal/github"
	"molecule-secrets.invalid/tools/engine/plugins/internal/random"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "genschema:", err)
		os.Exit(1)
	}
}

func main() {
	log, err := os.Create(os.DevNull)
	must(err)
	if os.Getenv("GENSCHEMA_VERBOSE") != "" {
		log = os.Stderr
	}
	sink := diag.DefaultSink(log, log, diag.FormatOptions{Color: colors.Never})

	t := time.Now()
	spec, err := tfgen.GenerateSchema(github.Info(), sink)
	must(err)
	b, err := json.Marshal(spec)
	must(err)
	must(os.WriteFile("cmd/pulumi-resource-github/schema.json", b, 0o644))
	fmt.Println("github", len(b), "bytes", len(spec.Resources), "resources", len(spec.Functions), "functions", time.Since(t))

	t = time.Now()
	res, err := pftfgen.GenerateSchema(context.Background(), pftfgen.GenerateSchemaOptions{ProviderInfo: random.Info(), DiagnosticsSink: sink})
	must(err)
	must(os.WriteFile("cmd/pulumi-resource-random/schema.json", res.ProviderMetadata.PackageSchema, 0o644))
	fmt.Println("random", len(res.ProviderMetadata.PackageSchema), "bytes", time.Since(t))
}
