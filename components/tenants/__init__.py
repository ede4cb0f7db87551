"""Tenants: Fly machines whose environment the control plane fills when it creates them, and which no write of an app's secrets reaches."""
