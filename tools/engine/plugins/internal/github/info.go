// Package github describes the bridge of the Terraform GitHub provider.
package github

import (
	"github.com/integrations/terraform-provider-github/v6/github"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge/tokens"
	sdkv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
)

// Version is the version of the Python SDK (pulumi_github) this plugin serves.
const Version = "6.15.0"

// Info returns the provider's description.
func Info() tfbridge.ProviderInfo {
	p := tfbridge.ProviderInfo{
		P:                sdkv2.NewProvider(github.NewProvider("6.13.0", "none")()),
		Name:             "github",
		Version:          Version,
		GitHubOrg:        "integrations",
		UpstreamRepoPath: ".",
		MetadataInfo:     tfbridge.NewProviderMetadata([]byte("{}")),
		Config:           map[string]*tfbridge.SchemaInfo{"token": {Secret: tfbridge.True()}},
		// The one name of the official SDK that the single-module rule does not give.
		DataSources: map[string]*tfbridge.DataSourceInfo{
			"github_app": {Tok: "github:index/getGithubApp:getGithubApp"},
		},
	}
	p.MustComputeTokens(tokens.SingleModule("github_", "index", tokens.MakeStandard("github")))
	p.SetAutonaming(255, "-")
	return p
}
