"""What runs inside the machines: the control plane and the tenant, as processes of the standard library only."""
