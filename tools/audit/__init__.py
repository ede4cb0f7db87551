"""Compares a stack's state with what its providers show. Reads only, and needs the program's environment only."""
