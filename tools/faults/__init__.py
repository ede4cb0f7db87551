"""The fault matrix: every request of a rotation is made to fail in every way, and the rotation has to survive it.

`python -m tools.faults --help`; what a run found is in `docs/fault-matrix.md`.
"""
