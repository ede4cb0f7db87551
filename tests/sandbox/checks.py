"""The program's own checks as processes, against a sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from components.verification.check import SETTINGS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping


def run_check(
    module: str,
    value: str,
    settings: Mapping[str, object],
    environment: Mapping[str, str],
    *,
    hidden: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a check as the engine does, with the operator's environment; it either passes or says why not.

    Args:
        module: Its name, which begins with that of its secret.
        value: On standard input. Nothing that is printed may hold it.
        settings: What the check is told.
        environment: The operator's.
        hidden: Parts of the value that must not be printed either.
    """
    told = {
        "secret": module.removesuffix("_probe").upper(),
        "generation": 2,
        "credential_id": "g2",
        "minted_at": datetime.now(UTC).isoformat(),
        "subject": "s",
        "state_if_failed": "as before.",
        "settings": settings,
    }
    done = subprocess.run(
        [sys.executable, "-m", f"components.verification.{module}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        input=value,
        env={"PATH": os.environ["PATH"], **environment, SETTINGS_VARIABLE: json.dumps(told)},
    )
    for word in (value, *hidden):
        assert not word or word not in done.stdout + done.stderr
    assert done.returncode in {0, 1}, done.stderr
    return done
