"""The rehearsal: every managed secret rotated on the sandbox, from nothing to a revoked old credential.

Exit status 0 only if everything held that is checked at the end. Leaves no process behind; leaves `.rehearsal` to look at.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from tools.rehearsal.outcome import Row, hand_made, judge
from tools.rehearsal.servers import REFUSES, fly_secret
from tools.workspace import CHECKOUT, STACK, FailedError, Workspace, exports, workspace

DIRECTORY = CHECKOUT / ".rehearsal"
TENANTS = 2
KEY = "SECRETS_ENCRYPTION_KEY"
# What was made by hand, as the program lists it: `inspect` shows values of credentials, and these are parts of URLs.
HAND_MADE = {"DATABASE_URL": ["molecule_cp"], "TENANT_REDIS_URL": ["default"]}
console = Console(highlight=False)


def main() -> int:
    """Rehearses, and returns an exit status."""
    started = time.monotonic()
    _remove_the_last_one()
    try:
        with workspace(DIRECTORY, "--tenants", str(TENANTS)) as stage:
            rows = _rehearse(stage)
        rows.append(Row(what="processes left behind", wanted="none", found=_processes_of(DIRECTORY) or "none"))
    except FailedError as error:
        console.print(f"\n[red]The rehearsal stopped:[/red] {error}", markup=True, soft_wrap=True)
        console.print(f"The sandbox's log is {_shown(DIRECTORY / 'sandbox' / 'sandbox.log')}.")
        return 1
    table = Table(title="What is true now")
    for heading in ("", "wanted", "found", ""):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row.what, row.wanted, row.found, "[green]ok[/green]" if row.held else "[red]NOT HELD[/red]")
    console.print(table)
    failed = [row.what for row in rows if not row.held]
    console.print(f'Look closer: eval "$(make env)"; python -m sandbox inspect --dir {_shown(DIRECTORY / "sandbox")}')
    seconds = time.monotonic() - started
    if failed:
        console.print(f"[red]The rehearsal failed after {seconds:.0f} s: {'; '.join(failed)}.[/red]")
        return 1
    console.print(f"[green]The rehearsal held, in {seconds:.0f} s.[/green]")
    return 0


def _rehearse(stage: Workspace) -> list[Row]:
    before = stage.inspect()
    environment = exports(stage.sandbox("env"))
    stage.configure("stripeAccount", environment["STRIPE_ACCOUNT_ID"])
    held = [_held(stage)]
    with _step(
        "what no API mints is handed in: a sender, a key rolled in Stripe's Dashboard, the encryption key in use"
    ):
        _hand_in(stage, 1)
        stage.set_secret("encryptionKeyBefore", environment[KEY])
    with _step("first deployment: takes over from the hand-made credentials, mints generation 1"):
        _show(_succeed(stage, "up", "--yes", "--skip-preview"))
    adopted = stage.outputs()["secrets"]
    for secret, metadata in adopted.items():
        names = ", ".join(each["name"] for each in metadata["unmanaged"])
        console.print(f"{secret}: not managed by the program at the same provider: {names or 'nothing'}")
    with _step("nothing bumped: a preview shows no change"):
        _succeed(stage, "preview", "--expect-no-changes")
    first = stage.inspect()
    held.append(_held(stage))
    with _step("bump of every counter, and the hand-made credentials are to be revoked as well"):
        handed_in = _hand_in(stage, 2)
        for secret in adopted:
            stage.set_generation(secret, 2)
            if secret in handed_in or secret == KEY:
                continue
            ids = HAND_MADE.get(secret) or hand_made(before, secret)
            for number, credential_id in enumerate(ids):
                stage.configure(f"revokeUnmanaged.{secret}[{number}]", credential_id, path=True)
        _show(_succeed(stage, "preview", "--diff"))
    with _step("pulumi up, while a client calls the control plane all the time"), _continuous_client(stage) as client:
        _show(_succeed(stage, "up", "--yes", "--skip-preview"))
    held.append(_held(stage))
    watched = stage.outputs()["secrets"]["STRIPE_API_KEY"]["alive"]
    with _step("Stripe ends the old key: the next `pulumi up` takes note"):
        stage.stripe("expire-key")
        _show(_succeed(stage, "up", "--yes", "--skip-preview"))
    with _step("nothing bumped: a preview shows no change, twice"):
        _succeed(stage, "preview", "--expect-no-changes")
        _succeed(stage, "preview", "--expect-no-changes")
    console.print_json(json.dumps(stage.outputs()))
    in_repository = [
        secret
        for secret, metadata in adopted.items()
        if any(location.startswith("GitHub") for location in metadata["locations"])
    ]
    rows = judge(
        before=before,
        first=first,
        last=stage.inspect(),
        secrets=[secret for secret in adopted if secret not in REFUSES],
        data_plane=list(REFUSES),
        in_repository=in_repository,
        handed_in={secret: sha256(value.encode()).hexdigest() for secret, value in handed_in.items()},
    )
    rows += _as_the_servers_say(stage, held)
    alive_now = stage.outputs()["secrets"]["STRIPE_API_KEY"]["alive"]
    rows.append(
        Row(what="STRIPE_API_KEY: old key, watched", wanted="1, then 0", found=f"{len(watched)}, then {len(alive_now)}")
    )
    answered = f"{client.calls} calls, {len(client.failures)} failed"
    rows.append(Row(what="calls during the rotation", wanted=f"{client.calls} calls, 0 failed", found=answered))
    return rows


def _hand_in(stage: Workspace, generation: int) -> dict[str, str]:
    """Values that differ from those before."""
    values = {
        "RESEND_FROM_EMAIL": f"Molecule AI <hello-{generation}@moleculesai.app>",
        "STRIPE_API_KEY": stage.stripe("roll-key", "--expires-in", "3600"),
    }
    for secret, value in values.items():
        stage.hand_in(secret, value)
        stage.set_generation(secret, generation)
    # The operator says that the encryption key in use is compromised: it is rotated only then.
    stage.set_generation(KEY, generation)
    stage.configure(f"compromised.{KEY}", str(generation), path=True)
    return values


def _held(stage: Workspace) -> dict[str, str]:
    """What Fly has for each secret that a real server can be asked about."""
    return {secret: fly_secret(stage.sandbox_directory, secret) for secret in REFUSES}


def _as_the_servers_say(stage: Workspace, held: Sequence[Mapping[str, str]]) -> list[Row]:
    """The value that was made by hand and those of both generations, as the real servers take them now."""
    rows = []
    for secret, refuses in REFUSES.items():
        said = ["refused" if refuses(stage.sandbox_directory, values[secret]) else "accepted" for values in held]
        rows.append(Row(what=f"{secret}: hand-made, 1, 2", wanted="refused, refused, accepted", found=", ".join(said)))
    return rows


def _succeed(stage: Workspace, *arguments: str) -> str:
    return stage.must(*arguments, "--stack", STACK)


@contextmanager
def _step(title: str) -> Iterator[None]:
    console.rule(f"[bold]{title}", align="left")
    started = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - started:.1f} s[/dim]")


def _show(output: str) -> None:
    console.print(output.strip(), markup=False, style="dim", soft_wrap=True)


@dataclass
class _Client:
    """Calls the control plane until it is stopped, one call after another, and lets something happen at Stripe now and then."""

    stage: Workspace
    url: str
    calls: int = 0
    events: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=10) as http:
            while not self._stop.is_set():
                self.calls += 1
                try:
                    response = http.get("/health")
                    if not response.is_success:
                        self.failures.append(str(response.status_code))
                except httpx.HTTPError as error:
                    self.failures.append(type(error).__name__)
                time.sleep(0.02)

    def cause_events(self) -> None:
        """Each of them has to reach the control plane, whichever secret it holds at that moment."""
        while not self._stop.is_set():
            self.stage.stripe("emit", "customer.subscription.updated")
            self.events += 1

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def _continuous_client(stage: Workspace) -> Iterator[_Client]:
    client = _Client(stage=stage, url=exports(stage.sandbox("env"))["CONTROL_PLANE_URL"])
    threads = [threading.Thread(target=client.run), threading.Thread(target=client.cause_events)]
    for thread in threads:
        thread.start()
    try:
        yield client
    finally:
        client.stop()
        for thread in threads:
            thread.join()


def _remove_the_last_one() -> None:
    if DIRECTORY.exists():
        Workspace(directory=DIRECTORY, environment={}).sandbox("stop")
        shutil.rmtree(DIRECTORY)


def _processes_of(directory: Path) -> str:
    """The processes that carry the folder of this rehearsal in their command line or environment."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            words = [*(process.info["cmdline"] or []), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != psutil.Process().pid and any(str(directory) in word for word in words):
            found.append(f"{process.pid} {process.name()}")
    return ", ".join(found)


def _shown(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


if __name__ == "__main__":
    sys.exit(main())
