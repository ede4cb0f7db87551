"""The rotation program: what `__main__.py` declares is carried out here.

Start at `secret.py` (what a managed secret is), then `rotation.py` (what is decided before anything is touched), `graph.py` (the resources)
and `lifecycle.py` (what minting and revoking do). Each external system has a package of its own, with the same files: `client.py` (HTTP,
no Pulumi), `issuer.py` where it mints, `provider.py` and `resources.py` where it holds values.

Pulumi is known to `rotation`, `graph`, `own_state` and the modules named `provider`, `resources` and `dynamic_provider`, and to nothing
else. The decisions (`secret`, `keyring`, `settings`, `work`, `errors`) know no HTTP either.
"""
