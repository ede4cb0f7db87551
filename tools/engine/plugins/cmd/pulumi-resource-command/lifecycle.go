package main

import (
	"context"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Create runs the create command.
func (Command) Create(ctx context.Context, req infer.CreateRequest[Inputs]) (infer.CreateResponse[State], error) {
	id, err := resource.NewUniqueHex(req.Name, 8, 0)
	response := infer.CreateResponse[State]{ID: id, Output: State{Inputs: req.Inputs}}
	if err != nil || req.DryRun {
		return response, err
	}
	response.Output.Outputs, err = run(ctx, req.Inputs.Create, req.Inputs, Outputs{})
	return response, err
}

// Update runs the update command, or the create command where there is none.
func (Command) Update(ctx context.Context, req infer.UpdateRequest[Inputs, State]) (infer.UpdateResponse[State], error) {
	response := infer.UpdateResponse[State]{Output: State{Inputs: req.Inputs, Outputs: req.State.Outputs}}
	if req.DryRun {
		return response, nil
	}
	command := req.Inputs.Update
	if command == nil {
		command = req.Inputs.Create
	}
	var err error
	response.Output.Outputs, err = run(ctx, command, req.Inputs, req.State.Outputs)
	return response, err
}

// Delete runs the delete command.
func (Command) Delete(ctx context.Context, req infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	_, err := run(ctx, req.State.Delete, req.State.Inputs, req.State.Outputs)
	return infer.DeleteResponse{}, err
}
