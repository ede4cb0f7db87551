"""No secret value is found in the state folder, the engine's folder, the program, logs, process lists or captured output."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from components.operator_credentials import ALL, UPSTASH_EMAIL
from tests.engine.stage import KEY, NEON, RESEND, SECRET, SENDER, WEBHOOK, Stage, json_of
from tools.workspace import CHECKOUT, STACK, workspace

PREFIXES = ("fm2_", "napi_", "re_", "sk_live_", "whsec_")
GENERATED = "SESSION_KEY"
SECRET_ONES = [credential for credential in ALL if credential is not UPSTASH_EMAIL]
ENCRYPTION_KEY = "SECRETS_ENCRYPTION_KEY"
URLS = ("DATABASE_URL", "TENANT_REDIS_URL")
LISTED = (SECRET, NEON, RESEND, WEBHOOK, KEY, SENDER, GENERATED, ENCRYPTION_KEY, *URLS)
MORE = f"""
        Secret(
            name="{GENERATED}",
            source=Random(length=48, encoding="base64"),
            fly=(FlySecret(app=settings.app),),
            verification=Check(module="fly_app", settings={{"app": settings.app}}),
        ),
    ],
    not_managed"""
SENDERS = tuple(f"Molecule AI <kept-quiet-{number}@moleculesai.app>" for number in (1, 2))


class _ProcessList(threading.Thread):
    """Collects the command lines of all processes until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.command_lines: set[str] = set()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                self.command_lines.add(" ".join(process.info["cmdline"] or []))

    def stop(self) -> None:
        self._ended.set()
        self.join()


@pytest.fixture
def whole_map(tmp_path: Path) -> Iterator[Stage]:
    """With a tenant, and rows that are encrypted."""
    with workspace(tmp_path / "workspace", "--tenants", "1") as made:
        yield Stage(directory=made.directory, environment=made.environment)


def test_no_value_appears_anywhere(whole_map: Stage) -> None:
    printed: list[str] = []
    values: set[str] = set()
    _list_everything(whole_map)
    whole_map.set_secret("encryptionKeyBefore", whole_map.fly_secret(ENCRYPTION_KEY))
    values |= _data_plane(whole_map)
    processes = _ProcessList()
    processes.start()
    try:
        _hand_in(whole_map, 0)
        printed.append(whole_map.deploys("--logtostderr", "-v=5"))
        values |= _values(whole_map)
        _hand_in(whole_map, 1)
        whole_map.set_generations(2, *LISTED)
        whole_map.configure(f"compromised.{ENCRYPTION_KEY}", "2", path=True)
        printed.append(whole_map.preview("--diff").output)
        printed.append(whole_map.preview("--json").output)
        plan = whole_map.directory / "plan.json"
        whole_map.must("preview", "--stack", STACK, "--save-plan", str(plan))
        printed += [plan.read_text(), json.dumps(whole_map.impact())]
        whole_map.sandbox("set", "github.workflow_broken=publish-platform-image.yml")
        printed.append(whole_map.fails())
        whole_map.sandbox("set", "github.workflow_broken=")
        printed.append(whole_map.deploys("--diff"))
        exported = whole_map.must("stack", "export", "--stack", STACK)
        printed.append(exported)
        printed.append(json.dumps(whole_map.outputs()))
        printed.append(whole_map.must("stack", "history", "--stack", STACK))
        printed += _tools(whole_map)
    finally:
        processes.stop()

    assert (whole_map.directory / "pulumi-home" / "logs").is_file(), "the engine logs every property elsewhere"
    traces = {
        each["urn"]: json.dumps(each.get("stackTrace"))
        for each in json.loads(exported)["deployment"]["resources"]
        if not each["type"].startswith(("pulumi:pulumi:", "pulumi:providers:"))
    }
    assert all("project:///components/" in trace for trace in traces.values())
    assert [urn for urn, trace in traces.items() if "site-packages" in trace] == [], "no path of this machine"
    values |= _values(whole_map)
    values |= {whole_map.environment[variable] for credential in SECRET_ONES for variable in credential.variables[:1]}
    for prefix in PREFIXES:
        assert sum(value.startswith(prefix) for value in values) >= 2, f"generation 1 and 2 of {prefix}"
    assert len({value for value in values if re.fullmatch("[A-Za-z0-9+/]{64}", value)}) >= 2, "generated ones"
    assert len({value for value in values if re.fullmatch("[A-Za-z0-9+/]{43}=", value)}) == 3, "encryption keys"
    haystacks = {
        **{f"output {number}": text for number, text in enumerate(printed)},
        "process list": "\n".join(processes.command_lines),
        **_files(whole_map.sandbox_directory),
        **_files(whole_map.directory / "pulumi-home"),
        **_files(whole_map.program_directory),
    }
    assert any("components.verification" in line for line in processes.command_lines), (
        "checks were seen in the process list"
    )
    for kept in (f"{STACK}.json", f"{STACK}.json.bak"):
        assert any(name.endswith(kept) for name in haystacks), f"{kept} was searched"
    for folder in ("/backups/", "/history/"):
        assert any(folder in name for name in haystacks), f"{folder} was searched"
    for place, text in haystacks.items():
        for value in values:
            assert value not in text, f"a value is in plaintext in {place}"
        # Its own sandbox keeps the mails, whose senders are no secret there.
        if not place.startswith(str(whole_map.sandbox_directory / "world.sqlite")):
            assert not any(sender in text for sender in SENDERS), f"a sender is in plaintext in {place}"


def _tools(stage: Stage) -> list[str]:
    """What the report and the audit say, and the impact that an operator had written to a file."""
    shutil.copytree(CHECKOUT / "tools", stage.program_directory / "tools", ignore=shutil.ignore_patterns("engine"))
    page = stage.directory / "report.html"
    printed = [page, stage.directory / "impact.json"]
    said: list[str] = []
    for argv in (
        [sys.executable, "-m", "tools.report", "--stack", STACK, "--output", str(page)],
        [".venv/bin/python", "-m", "tools.audit", "--stack", STACK, "--json", "--strict"],
        [".venv/bin/python", "-m", "tools.audit", "--stack", STACK, "--strict"],
    ):
        ended = subprocess.run(
            argv,
            cwd=CHECKOUT if "tools.report" in argv else stage.program_directory,
            env=dict(stage.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode in {0, 1}, ended.stdout
        said.append(ended.stdout)
    assert f'"{SECRET}"' in said[1], "the audit has looked"
    assert SECRET in page.read_text()
    return [*said, *(each.read_text() for each in printed)]


def _list_everything(stage: Stage) -> None:
    """Adds a generated secret to the program, and what is handed in to the stack."""
    program = stage.program_directory / "__main__.py"
    text = program.read_text()
    assert text.count("    ],\n    not_managed") == 1
    program.write_text(
        "from components.secret import Check, FlySecret, Random, Secret\n"
        + text.replace("    ],\n    not_managed", MORE.removeprefix("\n"))
    )
    stage.configure("stripeAccount", stage.environment["STRIPE_ACCOUNT_ID"])
    stage.rotates(*LISTED)
    stage.configure(f"compromised.{ENCRYPTION_KEY}", "1", path=True)


def _hand_in(stage: Stage, turn: int) -> None:
    stage.hand_in(KEY, stage.stripe("roll-key", "--expires-in", "3600"))
    stage.hand_in(SENDER, SENDERS[turn])


def _values(stage: Stage) -> set[str]:
    """The secret part of every token and key in the present state, decrypted, and the generated value in its encodings."""
    text = stage.decrypted()
    generated = next(
        resource["outputs"]
        for resource in json_of(text)["deployment"]["resources"]
        if resource["urn"].endswith(f"::generated-{GENERATED}")
    )
    return {
        *_data_plane(stage),
        *re.findall(rf"(?:{'|'.join(PREFIXES)})[A-Za-z0-9+/=_-]{{20,}}", text),
        *(str(json_of(generated[encoding]["plaintext"])) for encoding in ("base64", "hex")),
    }


def _data_plane(stage: Stage) -> set[str]:
    """The passwords in the URLs that Fly has now, and the encryption key."""
    passwords = {urlsplit(stage.fly_secret(name)).password or "" for name in URLS}
    assert all(len(password) > 20 for password in passwords)
    return {*passwords, stage.fly_secret(ENCRYPTION_KEY)}


def _files(directory: Path) -> dict[str, str]:
    return {
        str(path): path.read_text(errors="replace")
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and not {"plugins", ".venv"} & {*path.relative_to(directory).parts}
    }
