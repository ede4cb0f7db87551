"""A person's picture of one stack: a single HTML page with the secret map, the state of each secret, and the last rotations.

It reads what the engine has kept (outputs and history), never a provider, and needs no network to be read.
"""
