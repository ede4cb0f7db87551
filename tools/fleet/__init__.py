"""Rotates secrets across stacks, in order. `selection`, `targets` and `record` decide, `engine` asks Pulumi, `rotation` runs it."""
