"""A causal, loopback-only stand-in for the systems whose secrets the program rotates.

Tokens really authenticate, Fly machines are real child processes with exactly the environment they booted with, the
control plane in them calls the other services with its own secrets. A wrong rotation therefore breaks here what it
would break in production. `python -m sandbox --help` lists the commands; `server.py` describes the parts.

Nothing here is checked against the live services: where their behaviour is not documented, the module that stands in
for it says so.
"""
