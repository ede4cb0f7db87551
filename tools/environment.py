"""Makes a virtual environment: `python3 tools/environment.py FOLDER REQUIREMENTS`. Standard library only; safe to repeat.

An interrupted run is finished by the next one: make asks for it again until it has succeeded once.
"""

import subprocess
import sys
import time
import venv
from pathlib import Path

OLDEST = (3, 11)


def main(folder: Path, requirements: Path) -> int:
    """Makes the environment and returns an exit status."""
    if sys.version_info < OLDEST:
        version = ".".join(str(number) for number in OLDEST)
        print(
            f"Python {version} or later is needed; {sys.executable} is {sys.version.split()[0]}. Set PYTHON=python3.xx.",
            file=sys.stderr,
        )
        return 1
    started = time.monotonic()
    print(f"installing {requirements} into {folder} …", file=sys.stderr, flush=True)
    if not (folder / "bin" / "pip").exists():
        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    python = folder / "bin" / "python"
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
        str(requirements),
    ]
    installed = subprocess.run(command, check=False)
    if installed.returncode != 0:
        print(
            f"pip could not install {requirements} (see above). Nothing else was changed; run make again.",
            file=sys.stderr,
        )
        return 1
    print(f"installed {requirements} into {folder} in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
