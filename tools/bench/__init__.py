"""Benchmarks: figures are ratios, measured side by side in one run on one machine. Nothing here is a test."""
