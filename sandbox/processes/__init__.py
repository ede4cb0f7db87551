"""What runs inside the machines: the control plane and the tenant, as processes of the standard library.

Only what needs PostgreSQL or encryption imports more, and late.
"""
