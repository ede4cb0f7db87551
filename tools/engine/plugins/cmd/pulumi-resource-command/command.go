package main

import (
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Command is a resource whose life cycle is shell commands.
//
//	event                        what runs                    what happens to stdout and stderr
//	create                       create, or nothing           set
//	an input but triggers        update, else create          replaced; kept where neither is given
//	triggers                     delete and create again      set by the new one
//	delete                       delete, or nothing           gone with the resource
//	any preview                  nothing                      unknown
//	any command fails            -                            as before; both are in the error's text
//
// Secrets flow from an input only to the output of the same name, never to stdout or stderr: that is how the official plugin does it, and a program
// that wants them encrypted has to ask for it with additionalSecretOutputs. This type must therefore not implement infer.ExplicitDependencies.
type Command struct{}

// Annotate sets the type token.
func (c *Command) Annotate(annotator infer.Annotator) {
	annotator.SetToken("local", "Command")
	annotator.Describe(c, "A local command that runs when the resource is created, updated or deleted.")
}

// Inputs are the inputs of a Command.
type Inputs struct {
	// AddPreviousOutputInEnv has no schema default: a default would be written into the inputs of every resource. Absent means true.
	AddPreviousOutputInEnv *bool             `pulumi:"addPreviousOutputInEnv,optional"`
	ArchivePaths           []string          `pulumi:"archivePaths,optional"`
	AssetPaths             []string          `pulumi:"assetPaths,optional"`
	Create                 *string           `pulumi:"create,optional"`
	Delete                 *string           `pulumi:"delete,optional"`
	Dir                    *string           `pulumi:"dir,optional"`
	Environment            map[string]string `pulumi:"environment,optional"`
	Interpreter            []string          `pulumi:"interpreter,optional"`
	Logging                *Logging          `pulumi:"logging,optional"`
	Stdin                  *string           `pulumi:"stdin,optional"`
	Triggers               []any             `pulumi:"triggers,optional" provider:"replaceOnChanges"`
	Update                 *string           `pulumi:"update,optional"`
}

// Outputs are what the last run that succeeded left behind.
type Outputs struct {
	Archive *resource.Archive          `pulumi:"archive,optional"`
	Assets  map[string]*resource.Asset `pulumi:"assets,optional"`
	Stderr  string                     `pulumi:"stderr"`
	Stdout  string                     `pulumi:"stdout"`
}

// State is the state of a Command.
type State struct {
	Inputs
	Outputs
}

// Logging says which of the command's streams are shown, unmasked, while it runs.
type Logging string

// The modes of Logging. Where none is given both streams are shown.
const (
	logNone            Logging = "none"
	logStderr          Logging = "stderr"
	logStdout          Logging = "stdout"
	logStdoutAndStderr Logging = "stdoutAndStderr"
)

// Values lists the modes for the schema.
func (Logging) Values() []infer.EnumValue[Logging] {
	return []infer.EnumValue[Logging]{
		{Name: "Stdout", Value: logStdout, Description: "Show stdout but not stderr."},
		{Name: "Stderr", Value: logStderr, Description: "Show stderr but not stdout."},
		{Name: "StdoutAndStderr", Value: logStdoutAndStderr, Description: "Show both."},
		{Name: "None", Value: logNone, Description: "Show neither."},
	}
}

func (l *Logging) showsStdout() bool {
	return l == nil || *l == logStdout || *l == logStdoutAndStderr
}

func (l *Logging) showsStderr() bool {
	return l == nil || *l == logStderr || *l == logStdoutAndStderr
}
