"""Does staging hold production back, does the same command finish both, and does one stack that fails stop the others or not, as asked?"""

import os
import re
import signal
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from tests.engine.announced import writes
from tests.engine.stage import SECRET, Stage
from tools.bench.fleet import break_delivery, fleet_of, put_after, rotate
from tools.fleet.record import FILE
from tools.fleet.selection import config_file
from tools.workspace import Workspace

PRODUCTION = re.compile(r"molecule-(cp|tenant|monorepo)(?!-staging)")
COMMENT = "# Ask Ann before changing this."


def staged(made: Workspace) -> Stage:
    return Stage(directory=made.directory, environment=made.environment)


def config_of(stage: Stage, name: str) -> bytes:
    return config_file(stage.program_directory, name).read_bytes()


def live(stage: Stage, *names: str) -> list[str]:
    """The live tokens of these stacks that the program has minted, without what all names have in common."""
    found = [str(each["name"]) for each in stage.inspect()["credentials"] if each["live"]]
    return sorted(each.rpartition("-rotation-")[2] for each in found for name in names if f"-rotation-{name}-" in each)


def minted(stage: Stage, name: str) -> int:
    """How many tokens the program has ever minted for a stack."""
    return sum(f"-rotation-{name}-" in str(each["name"]) for each in stage.inspect()["credentials"])


def states(outcome: Any) -> dict[str, str]:  # noqa: ANN401 - what was printed
    return {name: each["state"] for name, each in outcome["stacks"].items()}


def about_production(requests: Iterable[dict[str, Any]]) -> list[str]:
    """What the program asked about production's apps and repository, which are called like staging's, less its ending."""
    return [each["target"] for each in requests if each["consumer"] is None and PRODUCTION.search(each["target"])]


def test_staging_holds_production_back(tmp_path: Path) -> None:
    names = ("staging", "production")
    command = ("--stacks", "production", "staging", "--yes", "--soak", "1s")
    with fleet_of(tmp_path / "workspace", names, after={}) as made:
        stage = staged(made)
        for name in names:
            file = config_file(stage.program_directory, name)
            file.write_text(f"{COMMENT}\n{file.read_text()}")
        with ThreadPoolExecutor() as pool:
            ups = pool.map(lambda name: stage.pulumi("up", "--yes", "--skip-preview", "--stack", name), names)
            assert [each.status for each in ups] == [0, 0]
        put_after(made, "production", "staging")
        before = {name: config_of(stage, name) for name in names}

        # A passphrase that is wrong is found out before anything is touched.
        last = stage.last_request()
        refused = rotate(made, *command, environment={"PULUMI_CONFIG_PASSPHRASE": "another"})
        assert refused.status == 2
        assert refused.outcome["error"]["what"].count("incorrect passphrase") == 2, "for both stacks"
        assert stage.last_request() == last

        # A look changes nothing.
        looked = rotate(made, *command, "--dry-run")
        assert (looked.status, states(looked.outcome)) == (0, {"staging": "previewed", "production": "previewed"})
        assert looked.outcome["waves"] == [["staging"], ["production"]]
        assert looked.outcome["stacks"]["production"]["impact"]["secrets"][SECRET]["to"] == 2
        assert writes(stage.requests(after=last)) == []
        assert {name: config_of(stage, name) for name in names} == before
        assert not (stage.program_directory / FILE).exists()

        # Staging fails: production is not even looked at.
        last = stage.last_request()
        break_delivery(made, "staging")
        failed = rotate(made, *command)
        assert failed.status == 1
        assert states(failed.outcome) == {"staging": "failed", "production": "not started"}
        told = failed.outcome["stacks"]["staging"]
        assert "403" in told["error"]["what"]
        assert "generation 1 still alive" in " ".join(told["left"])
        assert "staging is not verified" in failed.outcome["stacks"]["production"]["why"]
        assert about_production(stage.requests(after=last)) == []
        assert config_of(stage, "production") == before["production"]
        assert failed.outcome["changed"] == ["stacks/Pulumi.staging.yaml"]
        assert live(stage, *names) == [
            f"production-{SECRET}-g1",
            f"staging-{SECRET}-g1",
            f"staging-{SECRET}-g2",
        ], "nothing is revoked"

        # It is mended: the same command finishes both, and mints nothing twice.
        made.sandbox("fault", "--clear")
        done = rotate(made, *command)
        assert about_production(stage.requests(after=last)) != []
        assert (done.status, states(done.outcome)) == (0, {"staging": "verified", "production": "verified"}), (
            done.output
        )
        assert "goes on with the rotation that began" in done.output
        assert "as it was verified" in done.output, "after the soak staging is looked at once more"
        assert live(stage, *names) == [f"production-{SECRET}-g2", f"staging-{SECRET}-g2"]
        assert [minted(stage, name) for name in names] == [2, 2]
        assert stage.inspect()["breakages"] == []
        assert not (stage.program_directory / FILE).exists(), "nothing is unfinished"
        for name in names:
            assert config_of(stage, name).startswith(COMMENT.encode())
        assert stage.must("stack", "--show-name").strip() == "sandbox", "the operator's own stack is still selected"

        assert_nothing_leaks(stage, *(each.output for each in (refused, looked, failed, done)))


def assert_nothing_leaks(stage: Stage, *printed: str) -> None:
    """No operator credential is in what was printed, or in what the engines printed."""
    logs = [file.read_text() for file in (stage.program_directory / ".fleet").rglob("*.log")]
    assert len(logs) >= 4
    for text in (*logs, *printed):
        for name in ("FLY_ACCESS_TOKEN", "GITHUB_TOKEN"):
            assert stage.environment[name] not in text


def test_one_of_four_fails_and_the_others_are_done(tmp_path: Path) -> None:
    names = ("one", "two", "three", "four")
    command = ("--stacks", *names, "--yes", "--keep-going", "--parallel", "2")
    with fleet_of(tmp_path / "workspace", names, after={"four": "three"}) as made:
        stage = staged(made)
        break_delivery(made, "two")
        ran = rotate(made, *command)
        assert ran.status == 1
        assert ran.outcome["waves"] == [["one", "two", "three"], ["four"]]
        assert states(ran.outcome) == {"one": "verified", "two": "failed", "three": "verified", "four": "verified"}
        assert live(stage, *names) == [f"{name}-{SECRET}-g1" for name in sorted(names)]

        # Ctrl-C in the middle: the engine stops after what it is doing, and nothing is left running or locked.
        made.sandbox("fault", "--clear")
        interrupted = rotate(made, *command, heard=interrupt_at("writing to GitHub"))
        assert (interrupted.status, interrupted.outcome["interrupted"]) == (1, True), interrupted.output
        assert states(interrupted.outcome)["two"] == "failed"
        assert "two: " in interrupted.output
        assert engines_in(stage.program_directory) == []

        done = rotate(made, *command)
        assert (done.status, set(states(done.outcome).values())) == (0, {"verified"}), done.output
        assert [minted(stage, name) for name in names] == [1, 1, 1, 1]
        assert live(stage, *names) == [f"{name}-{SECRET}-g1" for name in sorted(names)]
        assert stage.inspect()["breakages"] == []


def interrupt_at(words: str) -> Any:  # noqa: ANN401 - a callback
    """Interrupts a process once it prints this."""
    done: list[str] = []

    def heard(line: str, pid: int) -> None:
        if words in line and not done:
            done.append(line)
            os.kill(pid, signal.SIGINT)

    return heard


def engines_in(folder: Path) -> list[int]:
    """Engines that run in a folder."""
    return [
        int(process.info["pid"])
        for process in psutil.process_iter(["name", "cwd", "pid"])
        if str(process.info["name"]).startswith("pulumi") and process.info["cwd"] == str(folder)
    ]
