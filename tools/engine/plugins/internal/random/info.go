// Package random describes the bridge of the Terraform random provider.
package random

import (
	"context"

	pf "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/terraform-providers/terraform-provider-random/shim"
)

// Version is the version of the Python SDK (pulumi_random) this plugin serves.
const Version = "4.21.4"

// Info returns the provider's description.
func Info() tfbridge.ProviderInfo {
	tok := func(low, name string) *tfbridge.ResourceInfo {
		return &tfbridge.ResourceInfo{Tok: tokens.Type("random:index/" + low + ":" + name)}
	}
	p := tfbridge.ProviderInfo{
		P:                pf.ShimProvider(shim.New()),
		Name:             "random",
		Version:          Version,
		GitHubOrg:        "terraform-providers",
		UpstreamRepoPath: ".",
		MetadataInfo:     tfbridge.NewProviderMetadata([]byte("{}")),
		Resources: map[string]*tfbridge.ResourceInfo{
			"random_bytes":    tok("randomBytes", "RandomBytes"),
			"random_id":       tok("randomId", "RandomId"),
			"random_integer":  tok("randomInteger", "RandomInteger"),
			"random_password": tok("randomPassword", "RandomPassword"),
			"random_pet":      tok("randomPet", "RandomPet"),
			"random_shuffle":  tok("randomShuffle", "RandomShuffle"),
			"random_string":   tok("randomString", "RandomString"),
			"random_uuid":     tok("randomUuid", "RandomUuid"),
		},
	}
	// random_bytes has no id attribute; resource ids are never encrypted in the state, so it must not be the value.
	p.Resources["random_bytes"].ComputeID = func(context.Context, resource.PropertyMap) (resource.ID, error) {
		return "none", nil
	}
	return p
}
