"""The control plane itself, `molecule-cp`: its health and its orgs."""
