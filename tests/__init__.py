"""Tests: `unit` without anything real, `sandbox` of its fidelity, `engine` with the real engine, `engine_build` of the engine itself."""
