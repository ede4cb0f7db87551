"""The command line of the sandbox: `python -m sandbox --help`.

To import all of the sandbox takes four times as long as what most commands do, and tests and rehearsals run many of them:
each imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from sandbox import stripe_commands
from sandbox.faults import Effect
from sandbox.world import ADMIN_TOKEN, HOST, READY_TIMEOUT, SETTINGS, SandboxError, World

if TYPE_CHECKING:
    from collections.abc import Sequence

START_TIMEOUT: Final = READY_TIMEOUT
ENVIRONMENT_TIMEOUT: Final = 5.0  # seconds more for each environment, whose databases have to be made
STOP_TIMEOUT: Final = 20.0
"""Seconds; every machine has five to end."""
PASSPHRASE: Final = "sandbox"  # noqa: S105 - protects nothing but a rehearsal
"""Of the file backend: fixed, because the encryption salt of the stack `sandbox` is in the repository."""
_LATER_CREDENTIALS: Final = (
    "NEON_API_KEY",
    "RESEND_API_KEY",
    "STRIPE_API_KEY",
    "STRIPE_ACCOUNT_ID",
    "STRIPE_WEBHOOK_ENDPOINT_ID",
    "UPSTASH_EMAIL",
    "UPSTASH_API_KEY",
    "UPSTASH_REDIS_ID",
    "UPSTASH_REDIS_REST_TOKEN",
    "SECRETS_ENCRYPTION_KEY",
)
"""What sandboxes made before these providers were added do not have."""
_OF_AN_ENVIRONMENT: Final = (
    "CONTROL_PLANE_URL",
    "TENANT_URL",
    "CP_ADMIN_API_TOKEN",
    "CP_SESSION",
    "SECRETS_ENCRYPTION_KEY",
    "STRIPE_API_KEY",
    "STRIPE_ACCOUNT_ID",
    "STRIPE_WEBHOOK_ENDPOINT_ID",
    "UPSTASH_REDIS_ID",
    "UPSTASH_REDIS_REST_TOKEN",
)
"""What every environment has of its own: in the program's environment it would count for every stack."""
_ROOT: Final = Path(__file__).resolve().parents[1]
_OPTIONS: Final = {
    "--revocation-delay": "revocation_delay",
    "--boot-time": "boot_time",
    "--check-interval": "check_interval",
    "--api-latency": "api_latency",
    "--secrets-lag": "secrets_lag",
    "--restart-backoff": "restart_backoff",
    "--proxy-patience": "proxy_patience",
    "--tenant-processes": "tenant.processes",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 1 after saying on standard error what is wrong."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or {"-h", "--help"} & set(given):
        importlib.import_module("sandbox.server")  # with it the settings that the help lists
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except SandboxError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, description: str, *, needs_directory: bool = True) -> argparse.ArgumentParser:  # noqa: ANN401
        found = commands.add_parser(name, help=description, description=description)
        found.set_defaults(run=run)
        _add_directory(found, required=needs_directory)
        return found

    start = command("start", _start, "start a new sandbox, or resume the one in DIR")
    _add_start(start)
    command("stop", _stop, "stop the sandbox and its machines; what they did stays in DIR")
    environment = command("env", _env, "print `export` lines: endpoints and the operator's credentials")
    _add_environment(environment, "whose; without it, of several, only what they share")
    files = command(
        "stacks", _stacks, "write the stacks' config files for the environments, with what `env` cannot say"
    )
    _add_stacks(files)
    command("inspect", _inspect, "print the truth as JSON", needs_directory=False)
    log = command("requests", _requests, "print the requests that were made, a JSON object a line, oldest first")
    log.add_argument("--after", type=_natural, default=0, metavar="NUMBER", help="only those that came after this one")

    setting_names = ", ".join(f"{name} ({setting.description})" for name, setting in SETTINGS.items())
    change = command("set", _set, f"change settings; KEY= restores the default. Keys: {setting_names}")
    change.add_argument("settings", nargs="+", metavar="KEY=VALUE")
    unset = command("unset", _unset, "restore settings to their defaults")
    unset.add_argument("settings", nargs="+", metavar="KEY")

    fault = command("fault", _fault, "make the n-th matching request fail")
    fault.add_argument(
        "--provider",
        help="fly, registry, github, neon, resend, upstash, dns, stripe, control-plane, tenant",
    )
    fault.add_argument(
        "--match",
        nargs=2,
        metavar=("METHOD", "PATH-REGEX"),
        help="METHOD or *; the expression is searched in the path, for GraphQL in '/graphql <root field>'",
    )
    fault.add_argument("--nth", type=_positive, default=1, help="the first matching request to fail (default 1)")
    fault.add_argument("--count", type=_positive, default=1, help="how many in a row (default 1)")
    fault.add_argument(
        "--program-only", action="store_true", help="count no request of a consumer (a machine, a workflow run)"
    )
    fault.add_argument("--retry-after", type=int, metavar="SECONDS", help="with --status: the Retry-After header")
    effect = fault.add_mutually_exclusive_group(required=True)
    effect.add_argument("--status", type=int, metavar="CODE", help="answer with this status; nothing is done")
    effect.add_argument("--timeout", action="store_true", help="never answer")
    effect.add_argument("--drop-before", action="store_true", help="close the connection; nothing is done")
    effect.add_argument("--drop-after", action="store_true", help="do it, then close the connection unanswered")
    effect.add_argument("--latency", type=int, metavar="MS", help="answer later")
    effect.add_argument("--clear", action="store_true", help="remove all faults")
    effect.add_argument("--list", action="store_true", help="print all faults, with the requests they saw")

    many = command("seed-orgs", _seed_organizations, "add organizations that run nowhere, with encrypted columns")
    _add_environment(many, "whose; by default the first one's")
    many.add_argument("--count", type=_positive, required=True, metavar="N", help="how many")

    stripe_commands.add(commands, _add_directory, _call)
    return parser


def _add_start(start: argparse.ArgumentParser) -> None:
    start.add_argument("--detach", action="store_true", help="return when everything is healthy; log: DIR/sandbox.log")
    start.add_argument("--machines", type=_positive, default=2, help="control-plane machines of a new sandbox")
    start.add_argument(
        "--tenants",
        type=_natural,
        default=0,
        metavar="N",
        help="organizations tenant-1 to tenant-N of a new sandbox, each with its running tenant (default 0)",
    )
    start.add_argument(
        "--environment",
        dest="environments",
        action="append",
        default=[],
        metavar="NAME[,NAME...]",
        help="host these environments side by side in a new sandbox, under the names that the stack NAME's file has; may be "
        "repeated (default: one, that of the stack sandbox)",
    )
    start.add_argument(
        "--stacks", type=Path, default=_ROOT / "stacks", metavar="FOLDER", help="where the stacks' files are"
    )
    start.add_argument(
        "--light", action="store_true", help="environments that cost little, for many: see environments.py"
    )
    start.add_argument("--rate-limits", action="store_true", help=SETTINGS["rate_limits"].description)
    for option, setting in _OPTIONS.items():
        unit = "N" if option == "--tenant-processes" else "SECONDS"
        start.add_argument(option, dest=setting, metavar=unit, help=SETTINGS[setting].description)


def _add_stacks(files: argparse.ArgumentParser) -> None:
    files.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="what is there already is kept")
    files.add_argument(
        "--stacks", type=Path, default=_ROOT / "stacks", metavar="FOLDER", help="where the stacks' files are otherwise"
    )
    files.add_argument(
        "--environment", dest="environments", action="append", default=[], metavar="NAME", help="only it"
    )
    files.add_argument(
        "--rotate", action="append", default=[], metavar="SECRET", help="only these secrets, at generation 1"
    )


def _add_directory(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--dir", type=Path, required=required, metavar="DIR", help="the sandbox's folder")


def _add_environment(parser: argparse.ArgumentParser, description: str) -> None:
    parser.add_argument("--environment", metavar="NAME", help=description)


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


# -- start and stop ----------------------------------------------------------------------------------------------------


def _start(options: argparse.Namespace) -> int:
    directory: Path = options.dir
    if _running(directory) is not None:
        return _already_running(directory)
    if options.detach:
        listed = sum(each.count(",") + 1 for each in options.environments)
        return _start_detached(directory, START_TIMEOUT + listed * ENVIRONMENT_TIMEOUT)
    settings = {name: getattr(options, name) for name in _OPTIONS.values() if getattr(options, name) is not None}
    if options.rate_limits:
        settings["rate_limits"] = "1"
    import asyncio  # noqa: PLC0415 - see the module's docstring

    from sandbox import environments, server  # noqa: PLC0415

    names = [name.strip() for listed in options.environments for name in listed.split(",")]
    present = environments.named(names, options.stacks, light=options.light)
    sys.stderr.write(f"Serving the sandbox in {directory} until Ctrl-C or `python -m sandbox stop`.\n")
    asyncio.run(
        server.serve(directory, machines=options.machines, settings=settings, tenants=options.tenants, present=present)
    )
    return 0


def _already_running(directory: Path) -> int:
    try:
        unhealthy = _await_ready(directory, None, START_TIMEOUT)
    except SandboxError as error:
        sys.stderr.write(f"A sandbox runs in {directory} already, but not well. {error}\n")
        return 1
    if unhealthy:
        sys.stderr.write(f"A sandbox runs in {directory} already, but not healthy: {', '.join(unhealthy)}.\n")
        return 1
    sys.stdout.write(f"A sandbox runs in {directory} already, and is healthy.\n")
    return 0


def _start_detached(directory: Path, patience: float) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = directory / "sandbox.log"
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    with log.open("ab") as output:
        log.chmod(0o600)
        began = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
    try:
        unhealthy = _await_ready(directory, process, patience)
    except BaseException as error:
        # Whatever happened, nobody but us knows of it: it must not stay behind.
        _end(psutil.Process(process.pid) if process.poll() is None else None)
        if not isinstance(error, SandboxError):
            raise
        with log.open("rb") as lines:
            lines.seek(began)
            said = lines.read().decode(errors="replace").strip()
        raise SandboxError(said or str(error)) from error
    if unhealthy:
        sys.stderr.write(
            f"The sandbox in {directory} runs, but these machines are not healthy after {patience:.0f} s: "
            f"{', '.join(unhealthy)}. See `python -m sandbox inspect --dir {directory}`.\n"
        )
        return 1
    with contextlib.closing(World(directory, create=False)) as world:
        sys.stdout.write(
            f"Sandbox in {directory}: healthy (process {process.pid}).\n"
            f"  control plane  {world.url('control-plane')}\n"
            f"  Fly            {world.url('fly')}\n"
            f"  GitHub         {world.url('github')}\n"
            f'Next: eval "$(python -m sandbox env --dir {shlex.quote(str(directory))})"\n'
        )
    return 0


def _await_ready(directory: Path, process: subprocess.Popen[bytes] | None, patience: float) -> list[str]:
    """Wait until the server is ready; return the machines that are unhealthy when the time is over.

    Raises `SandboxError` if the process ends or never answers.
    """
    deadline, pause = time.monotonic() + patience, 0.02
    state: dict[str, Any] | None = None
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise SandboxError(f"The server ended with status {process.returncode}.")
        if _running(directory) is not None:
            with contextlib.suppress(SandboxError, OSError):
                state = _call(directory, "GET", "/health")
                if state["ready"]:
                    return []
                pause = min(0.02 + 0.005 * len(state["unhealthy"]), 0.25)
        time.sleep(pause)
    if state is None:
        raise SandboxError(f"The server did not answer within {patience:.0f} s.")
    return [str(name) for name in state["unhealthy"]] or ["the server"]


def _running(directory: Path) -> psutil.Process | None:
    """Return the server's process, if it lives."""
    try:
        note = json.loads((directory / "sandbox.pid").read_text())
        process = psutil.Process(note["pid"])
        same = abs(process.create_time() - note["started"]) < 0.01  # noqa: PLR2004 - clock ticks are 10 ms
    except (OSError, ValueError, psutil.Error):
        return None
    return process if same and _alive(process) else None


def _stop(options: argparse.Namespace) -> int:
    process = _running(options.dir)
    if process is None:
        _end_orphans(options.dir)
        sys.stdout.write(f"No sandbox runs in {options.dir}.\n")
        return 0
    _end(process)
    sys.stdout.write(f"The sandbox in {options.dir} is stopped.\n")
    return 0


def _end(server: psutil.Process | None) -> None:
    """End a server with all its processes: it gets `STOP_TIMEOUT` to do it itself."""
    if server is None:
        return
    processes: list[psutil.Process] = [server]
    with contextlib.suppress(psutil.NoSuchProcess):
        processes += server.children(recursive=True)
        server.send_signal(signal.SIGTERM)
    for left in _left(processes, STOP_TIMEOUT):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    _left(processes, STOP_TIMEOUT)


def _left(processes: Sequence[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until all have ended and return those that have not after `timeout` seconds.

    A zombie has ended: who collects it, and when, is not ours to wait for.
    """
    deadline = time.monotonic() + timeout
    left = list(processes)
    while left and time.monotonic() < deadline:
        left = [process for process in left if _alive(process)]
        time.sleep(0.02)
    return left


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end_orphans(directory: Path) -> None:
    """End machines and servers that outlived a killed server; they end by themselves, this does not rely on it."""
    from sandbox import postgres, redis  # noqa: PLC0415 - see the module's docstring
    from sandbox.fly import machines, supervisor  # noqa: PLC0415

    redis.end_stale(directory)
    with (
        contextlib.suppress(SandboxError, sqlite3.OperationalError),
        contextlib.closing(World(directory, create=False)) as world,
    ):
        for machine in machines.listing(world):
            supervisor.end_stale(machine)
    postgres.end_stale(directory)


# -- looking -----------------------------------------------------------------------------------------------------------


def _env(options: argparse.Namespace) -> int:
    from sandbox import environments  # noqa: PLC0415 - see the module's docstring

    with contextlib.closing(World(options.dir, create=False)) as world:
        state = world.directory / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        fly, github = world.url("fly"), world.url("github")
        present = environments.of(world)
        chosen = environments.find(world, options.environment) if options.environment else present[0]

        def kept(name: str) -> str | None:
            """Of a value that every environment has of its own."""
            return world.kept(chosen.key(name))

        variables = {
            "SANDBOX_DIR": str(world.directory),
            "FLY_API_BASE_URL": fly,
            "FLY_FLAPS_BASE_URL": fly,
            "FLY_UIEX_BASE_URL": fly,
            "FLY_METRICS_BASE_URL": fly,
            "FLY_REGISTRY_URL": world.url("registry"),
            "FLY_SEND_METRICS": "0",
            "FLY_SYNTHETICS_AGENT": "0",
            "FLY_NO_UPDATE_CHECK": "1",
            "FLY_NO_INCIDENTS_CHECK": "1",
            "FLY_CONFIG_DIR": str(world.directory / "fly"),
            "FLY_ACCESS_TOKEN": world.kept("FLY_ACCESS_TOKEN"),
            "GITHUB_BASE_URL": f"{github}/",
            "GITHUB_API_URL": github,
            "GITHUB_TOKEN": world.kept("GITHUB_TOKEN"),
            "GH_TOKEN": world.kept("GITHUB_TOKEN"),
            "NEON_API_BASE_URL": f"{world.url('neon')}/api/v2",
            "NEON_API_KEY": world.kept("NEON_API_KEY"),
            "RESEND_API_URL": world.url("resend"),
            "RESEND_API_KEY": world.kept("RESEND_API_KEY"),
            "DNS_OVER_HTTPS_URL": world.url("dns"),
            "STRIPE_API_BASE_URL": world.url("stripe"),
            "STRIPE_API_KEY": kept("STRIPE_API_KEY"),
            "STRIPE_ACCOUNT_ID": kept("STRIPE_ACCOUNT_ID"),
            "STRIPE_WEBHOOK_ENDPOINT_ID": kept("STRIPE_WEBHOOK_ENDPOINT_ID"),
            "UPSTASH_API_URL": f"{world.url('upstash')}/v2",
            "UPSTASH_EMAIL": world.kept("UPSTASH_EMAIL"),
            "UPSTASH_API_KEY": world.kept("UPSTASH_API_KEY"),
            "UPSTASH_REDIS_ID": kept("UPSTASH_REDIS_ID"),
            "UPSTASH_REDIS_REST_URL": world.url("upstash"),
            "UPSTASH_REDIS_REST_TOKEN": kept("UPSTASH_REDIS_REST_TOKEN"),
            "CONTROL_PLANE_URL": world.url(chosen.service("control-plane")),
            "TENANT_URL": world.url(chosen.service("tenant")),
            "CP_ADMIN_API_TOKEN": kept("CP_ADMIN_API_TOKEN"),
            "CP_SESSION": kept("CP_SESSION"),
            # What an operator keeps of the key that the control plane had before the program came.
            "SECRETS_ENCRYPTION_KEY": kept("SECRETS_ENCRYPTION_KEY"),
            "PULUMI_BACKEND_URL": state.as_uri(),
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        if len(present) > 1 and not options.environment:
            for name in _OF_AN_ENVIRONMENT:
                del variables[name]
    for name in _LATER_CREDENTIALS:
        if name in variables and variables[name] is None:
            del variables[name]
    missing = [name for name, value in variables.items() if value is None]
    if missing:
        raise SandboxError(f"The sandbox in {options.dir} was never started completely. Start it first.")
    for name, value in variables.items():
        sys.stdout.write(f"export {name}={shlex.quote(str(value))}\n")
    return 0


def _stacks(options: argparse.Namespace) -> int:
    from sandbox import stack_files  # noqa: PLC0415 - see the module's docstring

    with contextlib.closing(World(options.dir, create=False)) as world:
        chosen = stack_files.of(world, options.environments)
        stack_files.write(
            world, chosen, options.to, passphrase=PASSPHRASE, stacks=options.stacks, rotated=options.rotate
        )
    return 0


def _inspect(options: argparse.Namespace) -> int:
    directory = options.dir or _default_directory()
    from sandbox import server  # noqa: PLC0415 - see the module's docstring

    with contextlib.closing(World(directory, create=False)) as world:
        json.dump(server.inspect(world), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def _requests(options: argparse.Namespace) -> int:
    with contextlib.closing(World(options.dir, create=False)) as world:
        for request in world.request_log(after=options.after):
            sys.stdout.write(json.dumps(request) + "\n")
    return 0


def _default_directory() -> Path:
    """Return the sandbox that a person means without `--dir`, and say which it is."""
    named = os.environ.get("SANDBOX_DIR")
    candidates = ([Path(named)] if named else []) + [Path(".sandbox"), Path(".rehearsal") / "sandbox"]
    for candidate in candidates:
        if (candidate / "world.sqlite").exists():
            sys.stderr.write(f"Sandbox: {candidate}\n")
            return candidate
    raise SandboxError(f"No sandbox found in {', '.join(map(str, candidates))}. Name it: --dir DIR")


# -- changing ----------------------------------------------------------------------------------------------------------


def _set(options: argparse.Namespace) -> int:
    changes = {}
    for text in options.settings:
        name, separator, value = text.partition("=")
        if not separator:
            raise SandboxError(f"Write KEY=VALUE, not {text!r}.")
        changes[name] = value
    return _change(options.dir, changes)


def _unset(options: argparse.Namespace) -> int:
    return _change(options.dir, dict.fromkeys(options.settings, ""))


def _change(directory: Path, changes: dict[str, str]) -> int:
    if _running(directory) is not None:
        _call(directory, "PATCH", "/settings", changes)
    else:
        importlib.import_module("sandbox.server")  # with it all settings
        from sandbox import switches  # noqa: PLC0415 - see the module's docstring

        with contextlib.closing(World(directory, create=False)) as world:
            for name, value in changes.items():
                switches.change(world, name, value)
    return 0


def _seed_organizations(options: argparse.Namespace) -> int:
    from sandbox import control_plane_database, environments  # noqa: PLC0415 - see the module's docstring

    with contextlib.closing(World(options.dir, create=False)) as world:
        environment = environments.find(world, options.environment or environments.of(world)[0].name)
        control_plane_database.add_many(world, options.count, environment)
    return 0


def _fault(options: argparse.Namespace) -> int:
    if options.list:
        json.dump(_call(options.dir, "GET", "/faults")["faults"], sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    if options.clear:
        _call(options.dir, "DELETE", "/faults")
        return 0
    if not options.provider or not options.match:
        raise SandboxError("A fault needs --provider and --match METHOD PATH-REGEX.")
    effects = {
        Effect.STATUS: options.status is not None,
        Effect.TIMEOUT: options.timeout,
        Effect.DROP_BEFORE: options.drop_before,
        Effect.DROP_AFTER: options.drop_after,
        Effect.LATENCY: options.latency is not None,
    }
    method, path = options.match
    fault = {
        "provider": options.provider,
        "method": method,
        "path": path,
        "nth": options.nth,
        "count": options.count,
        "effect": next(effect for effect, chosen in effects.items() if chosen),
        "status": options.status or 0,
        "retry_after": options.retry_after,
        "latency": options.latency or 0,
        "program_only": options.program_only,
    }
    _call(options.dir, "POST", "/faults", fault)
    return 0


def _call(directory: Path, method: str, path: str, document: object = None) -> dict[str, Any]:
    """Call the admin service. Raises `SandboxError` if the sandbox does not run or refuses."""
    with contextlib.closing(World(directory, create=False)) as world:
        token, port = world.kept(ADMIN_TOKEN), world.port("admin")
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(
            method,
            path,
            None if document is None else json.dumps(document),
            {"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        answer = connection.getresponse()
        body: dict[str, Any] = json.loads(answer.read() or b"{}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SandboxError(
            f"The sandbox in {directory} does not answer. Start it: python -m sandbox start --dir {directory} --detach"
        ) from error
    finally:
        connection.close()
    if answer.status >= http.client.BAD_REQUEST:
        raise SandboxError(body.get("error", f"The sandbox answered {answer.status}."))
    return body
