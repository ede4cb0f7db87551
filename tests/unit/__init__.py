"""Unit tests: one file per module of `components`. No network, no engine, no sleeping."""
