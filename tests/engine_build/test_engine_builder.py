"""The builder: one complete build, whatever interrupts it and however many ask for it, or a clear message."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.engine_build.engine_workshop import FAKE_PULUMI, PATIENCE, is_running, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine_build.engine_workshop import Workshop

GO_BUILDS = 3


def test_builds_once_and_then_finds_it(workshop: Workshop) -> None:
    first = workshop.run("ensure")
    assert first.returncode == 0, first.stderr
    (key,) = workshop.engines()
    engine = workshop.cache / key
    assert first.stdout == f"{engine}\n"
    assert sorted(path.name for path in (engine / "bin").iterdir()) == [
        "pulumi",
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    ]
    assert all(os.access(path, os.X_OK) for path in (engine / "bin").glob("*-*-*-*"))
    assert sorted(path.name for path in (engine / "home" / "plugins").iterdir()) == [
        "resource-command-v1.2.1",
        "resource-github-v6.15.0",
        "resource-random-v4.21.4",
    ]
    assert sorted(path.name for path in engine.iterdir()) == ["bin", "home"], "the plugins were kept twice"
    assert [line[:5] for line in first.stderr.splitlines()[::2]] == [f"[{step}/6]" for step in range(1, 7)]

    second = workshop.run("ensure")
    assert (second.returncode, second.stdout, second.stderr) == (0, first.stdout, "")
    assert len(workshop.calls("build")) == GO_BUILDS


def test_a_changed_input_is_another_engine(workshop: Workshop) -> None:
    workshop.run("ensure")
    (workshop.sources / "plugins" / "main.go").write_text("package main // changed\n")
    workshop.run("ensure")
    assert len(workshop.engines()) == 2
    assert len(workshop.calls("build")) == 2 * GO_BUILDS


@pytest.mark.parametrize(
    ("signal_number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupt_ends_the_build_and_leaves_nothing(workshop: Workshop, signal_number: int, status: int) -> None:
    workshop.block()
    process = workshop.start("env")
    compiler = workshop.compiler()
    process.send_signal(signal_number)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    assert stdout == ""
    assert [line for line in stderr.splitlines() if "nterrupted" in line][1:] == [
        "Interrupted: nothing was installed, and nothing is left running. Run it again to go on."
    ]
    assert "Traceback" not in stderr
    wait_until(
        lambda: not is_running(compiler), "the compiler to end: it has been killed, and the kernel takes a moment"
    )
    assert workshop.engines() == []

    (workshop.fake / "block").unlink()
    assert workshop.run("ensure").returncode == 0


def test_a_killed_builder_is_not_believed_and_cleaned_up_after(workshop: Workshop) -> None:
    workshop.block()
    process = workshop.start("ensure")
    workshop.compiler()
    process.kill()
    process.communicate()
    (left,) = workshop.engines()
    assert left.endswith(f".building-{process.pid}")

    workshop.unblock()
    result = workshop.run("ensure")
    assert result.returncode == 0, result.stderr
    assert workshop.engines() == [left.partition(".")[0]]


def test_two_at_once_build_once(workshop: Workshop) -> None:
    workshop.block()
    first = workshop.start("ensure")
    workshop.compiler()
    second = workshop.start("ensure")
    assert second.stderr is not None
    assert second.stderr.readline() == f"Process {first.pid} is building this engine already; waiting for it ...\n"
    workshop.unblock()
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert outputs[0] == outputs[1] != ""
    assert len(workshop.calls("build")) == GO_BUILDS


def test_one_who_waits_can_be_interrupted_without_harm(workshop: Workshop) -> None:
    workshop.block()
    first = workshop.start("ensure")
    workshop.compiler()
    second = workshop.start("ensure")
    assert second.stderr is not None
    second.stderr.readline()
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=PATIENCE)
    assert second.returncode == 130
    workshop.unblock()
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0


def test_one_who_waits_takes_over_from_a_killed_builder(workshop: Workshop) -> None:
    workshop.block()
    first = workshop.start("ensure")
    workshop.compiler()
    second = workshop.start("ensure")
    assert second.stderr is not None
    second.stderr.readline()
    first.kill()
    workshop.unblock()
    second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert len(workshop.engines()) == 1


def test_the_work_of_a_living_builder_of_another_engine_stays(workshop: Workshop) -> None:
    workshop.block()
    other = workshop.start("ensure")
    workshop.compiler()
    (building,) = workshop.engines()
    (workshop.fake / "block").unlink()
    (workshop.sources / "cli" / "main.go").write_text("package main // changed\n")
    assert workshop.run("ensure").returncode == 0
    assert building in workshop.engines()
    os.kill(workshop.compiler(), signal.SIGTERM)
    other.communicate(timeout=PATIENCE)
    assert other.returncode == 0


def test_a_failed_build_shows_the_last_lines_and_where_the_rest_is(workshop: Workshop) -> None:
    (workshop.fake / "fail").touch()
    result = workshop.run("env")
    assert (result.returncode, result.stdout) == (1, "")
    assert "failed with status 2" in result.stderr
    assert "  100\n  undefined: nonsense\n" in result.stderr
    assert "  50\n" not in result.stderr
    named = re.search(r"whole output is in (\S+\.log)\.", result.stderr)
    assert named is not None
    with open(named[1]) as log:  # noqa: PTH123 # the path as the message gives it
        assert "\n50\n" in log.read()
    assert workshop.engines() == []


def test_an_engine_that_does_not_answer_as_it_should_is_not_kept(workshop: Workshop) -> None:
    for name, value in (("FAKE_PULUMI_VERSION", "v3.0.0"), ("FAKE_RANDOM_VERSION", "4.0.0")):
        workshop.environment = {name: value}
        result = workshop.run("ensure")
        assert (result.returncode, result.stdout) == (1, ""), name
        assert value in result.stderr
        assert workshop.engines() == []


def test_no_go(workshop: Workshop) -> None:
    (workshop.folder / "go-bin" / "go").unlink()
    result = workshop.run("env")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no pulumi on PATH, and no Go to build it with" in result.stderr
    assert "https://go.dev/dl/" in result.stderr
    assert "official Pulumi CLI" in result.stderr


@pytest.mark.parametrize("version", ["go1.25.9", "go1.9", "go0.99", "", "gibberish"])
def test_go_too_old(workshop: Workshop, version: str) -> None:
    workshop.environment = {"FAKE_GO_VERSION": version}
    result = workshop.run("env")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"go is {version or 'of no known version'}, and 1.26 is needed" in result.stderr
    assert "https://go.dev/dl/" in result.stderr
    assert workshop.calls("build") == []


@pytest.mark.parametrize("version", ["go1.26", "go1.26rc1", "go1.27.1", "go2.0", "devel go1.27-abcdef"])
def test_go_new_enough(workshop: Workshop, version: str) -> None:
    workshop.environment = {"FAKE_GO_VERSION": version}
    assert workshop.run("ensure").returncode == 0


def test_a_go_that_does_not_run(workshop: Workshop) -> None:
    workshop.environment = {"FAKE_GO_ENV_STATUS": "1"}
    result = workshop.run("env")
    assert result.returncode == 1
    assert "`go env` failed" in result.stderr


def test_the_users_go_settings_do_not_reach_the_build(workshop: Workshop) -> None:
    workshop.environment = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "go1.99.0", "GOWORK": "/somewhere/go.work"}
    assert workshop.run("ensure").returncode == 0
    for call in (*workshop.calls("env"), *workshop.calls("build"), *workshop.calls("list")):
        assert call.startswith("GOFLAGS=-mod=readonly -buildvcs=false GOTOOLCHAIN=local GOWORK=off go ")


def shell(workshop: Workshop, script: str) -> str:
    """Run a shell script in which $PYTHON is the interpreter, and return what it prints."""
    return subprocess.run(
        ["sh", "-euc", script],
        cwd=workshop.folder / "checkout",
        env={**workshop.full_environment(), "PYTHON": sys.executable},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_the_shell_finds_the_engine_and_the_own_build_is_recognised(workshop: Workshop) -> None:
    workshop.environment = {"XDG_CACHE_HOME": str(workshop.folder / "it's a cache")}
    output = shell(
        workshop,
        """
        first=$($PYTHON -m tools.engine env)
        eval "$first"
        second=$($PYTHON -m tools.engine env)
        [ "$first" = "$second" ]
        command -v pulumi
        echo "$PULUMI_HOME"
        echo "$PULUMI_SKIP_UPDATE_CHECK $PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"
        """,
    )
    root = workshop.folder / "it's a cache" / "molecule-secrets" / "engine"
    (engine,) = (path for path in root.iterdir() if path.is_dir())
    assert output.splitlines() == [f"{engine}/bin/pulumi", f"{engine}/home", "true true"]


def test_an_own_build_behind_a_link_is_recognised(workshop: Workshop) -> None:
    (workshop.folder / "real").mkdir()
    (workshop.folder / "cache").symlink_to(workshop.folder / "real")
    engine = workshop.run("ensure").stdout.strip()
    workshop.environment = {"PATH": f"{engine}/bin:{workshop.full_environment()['PATH']}"}
    assert "PULUMI_HOME" in workshop.run("env").stdout


def test_a_relative_cache_folder_is_ignored(workshop: Workshop) -> None:
    workshop.environment = {"XDG_CACHE_HOME": "relative"}
    assert workshop.run("ensure").stdout.startswith(str(workshop.folder / "homedir" / ".cache" / "molecule-secrets"))


def add_official(workshop: Workshop, version: str) -> Path:
    """Put a pulumi of the user's on PATH."""
    program = workshop.add_program("official", "pulumi", FAKE_PULUMI)
    path = f"{program.parent}:{workshop.full_environment()['PATH']}"
    workshop.environment |= {"PATH": path, "FAKE_PULUMI_VERSION": version}
    return program


def test_the_users_pulumi_is_used_and_left_alone(workshop: Workshop) -> None:
    add_official(workshop, "v3.260.1")
    (workshop.folder / "go-bin" / "go").unlink()
    assert workshop.run("env").stdout == "export PULUMI_SKIP_UPDATE_CHECK=true\nexport PULUMI_PARALLEL=128\n"
    workshop.environment |= {"PULUMI_PARALLEL": "8"}
    assert "export PULUMI_PARALLEL=8\n" in workshop.run("env").stdout, "the user's own counts"
    ensured = workshop.run("ensure")
    assert (ensured.returncode, ensured.stdout, ensured.stderr) == (0, "", "")
    home = workshop.folder / "home"
    assert workshop.run("home", str(home)).returncode == 0
    assert [each.name for each in home.iterdir()] == ["logs"]
    assert workshop.engines() == []


def test_a_users_pulumi_that_is_too_old(workshop: Workshop) -> None:
    program = add_official(workshop, "v3.242.9")
    result = workshop.run("env")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"{program}, is v3.242.9, and 3.243.0 is the oldest" in result.stderr
    assert workshop.calls("build") == []


def test_a_users_pulumi_of_unknown_version(workshop: Workshop) -> None:
    add_official(workshop, "development")
    result = workshop.run("env")
    assert "export PULUMI_SKIP_UPDATE_CHECK=true\n" in result.stdout
    assert "does not tell its version ('development')" in result.stderr


def test_the_engine_has_no_folder_for_its_automatic_logs_unless_the_user_makes_one(workshop: Workshop) -> None:
    workshop.run("ensure")
    (key,) = workshop.engines()
    logs = workshop.cache / key / "home" / "logs"
    assert "remove this file, make a folder" in logs.read_text()
    logs.unlink()
    logs.mkdir()
    (logs / "a.log").write_text("kept")
    workshop.run("env")
    assert (logs / "a.log").read_text() == "kept"


def test_a_home_of_ones_own_shares_the_plugins(workshop: Workshop) -> None:
    home = workshop.folder / "some" / "home"
    for _ in range(2):
        result = workshop.run("home", str(home))
        assert (result.returncode, result.stdout) == (0, ""), result.stderr
    engine = workshop.cache / workshop.engines()[0]
    assert (home / "plugins").readlink() == engine / "home" / "plugins"


def test_a_home_with_plugins_of_its_own_is_refused(workshop: Workshop) -> None:
    plugins = workshop.folder / "home" / "plugins"
    plugins.mkdir(parents=True)
    result = workshop.run("home", str(plugins.parent))
    assert result.returncode == 1
    assert f"{plugins} is there already" in result.stderr
    assert plugins.is_dir()


def test_a_cache_that_cannot_be_written(workshop: Workshop) -> None:
    # A file in the way stops root too, which permissions do not.
    (workshop.folder / "cache").touch()
    result = workshop.run("ensure")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"{workshop.cache} cannot be used" in result.stderr
    assert "Traceback" not in result.stderr


def test_ending_the_fake_compiler_works(workshop: Workshop) -> None:
    """The tests above rely on it."""
    workshop.block()
    process = workshop.start("ensure")
    compiler = workshop.compiler()
    workshop.unblock()
    wait_until(lambda: not is_running(compiler), "the compiler to end")
    process.communicate(timeout=PATIENCE)
