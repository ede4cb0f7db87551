"""A team on Pulumi's PostgreSQL backend: one operator at a time, one state for all, and no database password in sight."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.engine.stage import FAMILY, SECRET, Stage, one_line
from tests.engine.state_database import StateDatabase, state_database
from tools.workspace import STACK, Result, another_operator, workspace

STACK_FILE = f"stacks/Pulumi.{STACK}.yaml"
PASSPHRASE = "PULUMI_CONFIG_PASSPHRASE"
WRONG = {PASSPHRASE: "not the passphrase"}
LOCKED = "the stack is currently locked by 1 lock(s)"
NOT_DEPLOYING = ("preview",), ("up", "--yes", "--skip-preview"), ("refresh", "--yes"), ("destroy", "--yes")


@dataclass(frozen=True, kw_only=True)
class Operator(Stage):
    """One of the team, with a clone, a home and an engine's folder of their own. Keeps what was printed for them."""

    printed: list[str]

    def pulumi(self, *arguments: str, timeout: float = 600, environment: dict[str, str] | None = None) -> Result:  # type: ignore[override]
        """The same; what it printed is kept."""
        result = super().pulumi(*arguments, timeout=timeout, environment=environment)
        self.printed.append(result.output)
        return result

    def pulls_from(self, other: Stage) -> None:
        """Gets the stack's config as the other one has it, as `git push` and `git pull` would."""
        shutil.copy(other.program_directory / STACK_FILE, self.program_directory / STACK_FILE)

    def text(self) -> str:
        """Everything that lies in the clone, the home and the engine's folder, but for what others wrote there."""
        folders = [self.program_directory, *(self.directory / name for name in ("home", "pulumi-home"))]
        return "\n".join(
            path.read_text(errors="replace")
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file() and not {"plugins", ".venv"} & {*path.relative_to(folder).parts}
        )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[StateDatabase]:
    """A team's PostgreSQL."""
    with state_database(tmp_path / "database") as made:
        yield made


@pytest.fixture
def first(tmp_path: Path, database: StateDatabase) -> Iterator[Operator]:
    """Has the password in the URL."""
    with workspace(tmp_path / "first") as made:
        yield Operator(
            directory=made.directory,
            environment={**made.environment, "PULUMI_BACKEND_URL": database.url},
            printed=[],
        )


@pytest.fixture
def second(tmp_path: Path, first: Operator, database: StateDatabase) -> Operator:
    """Has the password in a file that PostgreSQL's clients read, as the README says."""
    made = another_operator(first, tmp_path / "second")
    url = urlsplit(database.url)
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"{url.hostname}:{url.port}:*:{url.username}:{database.password}\n")
    passwords.chmod(0o600)
    without_password = {
        "PULUMI_BACKEND_URL": database.url.replace(f":{database.password}@", "@"),
        "PGPASSFILE": str(passwords),
    }
    return Operator(directory=made.directory, environment={**made.environment, **without_password}, printed=[])


def test_two_operators_take_turns_and_see_one_state(first: Operator, second: Operator, database: StateDatabase) -> None:
    first.must("stack", "select", "--create", STACK)
    first.rotates(SECRET)
    second.pulls_from(first)
    first.deploys()
    first.set_generation(SECRET, 2)

    with _update_at_a_halt(first) as process:
        writes, owner = (
            first.writes(),
            f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()} (pid {process.pid})",
        )
        for change in (("up", "--skip-preview"), ("refresh",), ("destroy",)):
            refused = second.pulumi(*change, "--yes", "--stack", STACK)
            assert refused.status != 0
            assert LOCKED in refused.output
            assert owner in refused.output
        assert second.preview().status == 0, "Pulumi takes no lock for a preview, which changes nothing"
        assert first.writes() == writes
    first.assert_settled(2)
    assert first.minted() == 2

    second.refuses("2")  # its clone still says 1
    second.pulls_from(first)
    second.assert_no_change()
    assert second.outputs() == first.outputs()

    second.set_generation(SECRET, 3)
    first.pulls_from(second)
    _both_at_once(first, second)
    second.assert_settled(3)
    assert first.minted() == 3
    first.assert_no_change()
    assert second.outputs() == first.outputs()

    second.pulumi("stack", "history", "--stack", STACK)
    assert "postgres://" in second.pulumi("whoami", "--verbose").output
    wherever = {"first": first.printed, "second": second.printed, "table": [*database.objects().values()]}
    for place, texts in wherever.items():
        assert texts
        assert not any(database.password in text for text in texts), f"the database's password is in {place}"
    assert database.password not in second.text()
    # What the README warns of. Where these do not hold any more, the warning can go.
    assert database.password in first.text(), "the engine's folder notes the URL of a selected stack"
    assert database.password in first.pulumi("whoami", "--verbose").output


def test_stack_moves_between_backends_and_passphrases(first: Operator, database: StateDatabase) -> None:
    on_files = Stage(
        directory=first.directory,
        environment={**first.environment, "PULUMI_BACKEND_URL": f"file://{first.state_directory}"},
    )
    on_files.rotates(SECRET)
    on_files.deploys()
    on_database = first

    _move(on_files, on_database)
    before = on_database.inspect()["requests"]
    for command in NOT_DEPLOYING:
        refused = on_database.pulumi(*command, "--stack", STACK, environment=WRONG)
        assert refused.status != 0
        assert one_line(refused.output).endswith("incorrect passphrase"), refused.output
    _refused_without_the_salt(on_database)
    assert on_database.inspect()["requests"] == before, "no provider was asked for anything"

    before_salt = _salt(on_database)
    rekeyed = _with_passphrase(on_database, "another passphrase")
    old_ones = {key for key, text in database.objects().items() if before_salt in text}
    assert old_ones, "what docs/operating/backends.md warns of: earlier states stay, under the old passphrase"
    assert not any(key.endswith(f"/{STACK}.json") for key in old_ones), "but not the present one"
    refused = on_database.preview()
    assert refused.status != 0
    assert "incorrect passphrase" in refused.output
    rekeyed.assert_no_change()
    rekeyed.set_generation(SECRET, 2)
    rekeyed.deploys()
    back = Stage(directory=first.directory, environment={**rekeyed.environment, **_backend_of(on_files)})
    _move(rekeyed, back)
    back.assert_settled(2)
    assert back.live() == [f"{FAMILY}-g2"]
    assert back.minted() == 2

    # What the README warns of: Pulumi prints the URL where it cannot connect. Without the password in it there is nothing to print.
    nowhere = database.url.replace("?", "_nowhere?")
    assert database.password in on_database.pulumi("whoami", environment={"PULUMI_BACKEND_URL": nowhere}).output
    without_password = nowhere.replace(f":{database.password}@", "@")
    told = on_database.pulumi(
        "whoami", environment={"PULUMI_BACKEND_URL": without_password, "PGPASSWORD": database.password}
    )
    assert 'database "pulumi_state_nowhere" does not exist' in told.output
    assert database.password not in told.output


@contextlib.contextmanager
def _update_at_a_halt(operator: Operator) -> Iterator["subprocess.Popen[str]"]:
    """Starts `pulumi up`, halts the engine when it has minted, and lets it finish at the end, which has to succeed."""
    minted = operator.minted()
    process = subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--stack", STACK, "--non-interactive"],
        cwd=operator.program_directory,
        env=dict(operator.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        while operator.minted() == minted:
            assert process.poll() is None, "it ended before it minted"
            time.sleep(0.1)
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=300)
        operator.printed.append(output)
    assert process.returncode == 0, output


def _both_at_once(*operators: Operator) -> None:
    """All start `pulumi up` at the same moment. Two may refuse each other, so each tries until it is its turn."""
    barrier = threading.Barrier(len(operators))
    results: list[Result] = []

    def deploy(operator: Operator) -> None:
        barrier.wait()
        while True:
            result = operator.up()
            # The other's lock can be gone between the two queries by which the engine lists locks.
            if "could not list bucket" in result.output:
                continue
            results.append(result)
            if "locked by" not in result.output:
                return

    threads = [threading.Thread(target=deploy, args=(operator,)) for operator in operators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result.status for result in results if "locked by" not in result.output} == {0}
    assert len(results) > len(operators), "somebody was refused"


def _backend_of(stage: Stage) -> dict[str, str]:
    return {"PULUMI_BACKEND_URL": stage.environment["PULUMI_BACKEND_URL"]}


def _move(source: Stage, target: Stage) -> None:
    """As docs/operating/backends.md says."""
    source.must("stack", "export", "--stack", STACK, "--file", "state.json")
    target.must("stack", "select", "--create", STACK)
    target.must("stack", "import", "--stack", STACK, "--file", "state.json")
    (source.program_directory / "state.json").unlink()
    target.assert_no_change()
    source.must("stack", "rm", "--yes", "--force", "--preserve-config", "--stack", STACK)


def _with_passphrase(stage: Stage, passphrase: str) -> Stage:
    """The same stack under another passphrase, as docs/operating/backends.md says."""
    subprocess.run(
        ["pulumi", "stack", "change-secrets-provider", "passphrase", "--stack", STACK, "--non-interactive"],
        cwd=stage.program_directory,
        env=dict(stage.environment),
        input=passphrase + "\n",
        text=True,
        check=True,
    )
    return Stage(directory=stage.directory, environment={**stage.environment, PASSPHRASE: passphrase})


def _salt(stage: Stage) -> str:
    found = re.search(r"(?m)^encryptionsalt: (\S+)$", (stage.program_directory / STACK_FILE).read_text())
    assert found is not None
    return found[1]


def _refused_without_the_salt(operator: Operator) -> None:
    """A clone whose stack file was never committed: Pulumi makes up a salt, and the wrong passphrase fits it, but not the state."""
    file = operator.program_directory / STACK_FILE
    committed = file.read_text()
    file.write_text(re.sub(r"(?m)^encryptionsalt: .*\n", "", committed))
    refused = operator.pulumi("up", "--yes", "--skip-preview", "--stack", STACK, environment=WRONG)
    assert refused.status != 0
    assert "incorrect passphrase" in one_line(refused.output)
    assert "encryptionsalt: " in file.read_text()
    file.write_text(committed)
