"""The rotation program: what `__main__.py` declares is carried out here.

Start at `secret.py` (what a managed secret is), then `rotation.py` (the graph that rotates it). Each external system has a package of
its own. Modules at this level import neither Pulumi nor httpx, but for `http.py`, `provider.py`, `own_state.py` and `rotation.py`.
"""
