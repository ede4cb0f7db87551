"""What all tests share.

This file, and not that of a folder below: with several workers the process that reports collects no tests, and so reads no other.
"""

import os

import pytest

from sandbox.world import PORTS, PORTS_VARIABLE

MEASURED = "measured"


def pytest_configure() -> None:
    """Gives each worker ports of its own: else a sandbox that stops for a moment may find its port taken by another worker's."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker:
        share = len(PORTS) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        first = PORTS.start + int(worker) * share
        os.environ[PORTS_VARIABLE] = f"{first}-{first + share - 1}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what was measured, by whichever process."""
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == MEASURED
    ]
    if lines:
        terminalreporter.section("measured")
        for line in sorted(lines):
            terminalreporter.line(line)
