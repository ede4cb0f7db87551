"""What the control plane keeps encrypted in its database, and the key of it."""
