"""The checks that pulumi-command runs: `python -m components.verification.<name>`. No Pulumi here.

A check is told what to look at in the variable ROTATION_CHECK (JSON, no secret values), gets a secret value only on standard input, and
takes operator credentials from its environment. It has a deadline of its own, cleans up what it made also when it fails or is ended, and
must be able to fail: `tests/engine` breaks what each one proves.
"""
