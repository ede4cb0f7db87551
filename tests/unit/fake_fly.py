"""A small Fly in memory: the secrets, machines, leases and releases of one app, behind the wire.

A machine boots with the secrets of the moment. What a test wants to go wrong is a function in `faults`: it sees each request, with a number
per kind of request, before Fly does and may answer in its place.
"""

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import httpx

from .wire import Clock, body_of, reply

Fault = Callable[[str, str, int], httpx.Response | Exception | None]
EXIT = {"exit_code": 1, "requested_stop": False, "restarting": True}


class FakeFly:
    """Machines of one app, each with one HTTP check unless told otherwise.

    Attributes:
        sick: Values with which a machine boots and never gets healthy; `m1 new` is that of m1 alone.
        crashing: Values with which a machine exits at once, likewise.
        variable: Where machines have their value from: a variable of their environment, "" for the app's secret TOKEN.
        check_delay: Seconds after a boot until the check has run again; until then its old result stays.
        at_once: The most machines that had booted and whose checks had not run again.
        log: What was done, in order: `write 2`, `boot m1 new`, `stop m1 new`, `lease m1`, `release m1`.
    """

    def __init__(self, clock: Clock, machines: int = 3, *, value: str = "old") -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.secrets: dict[str, str] = {"TOKEN": value}
        self.version = 1
        self.born = clock.utc()
        self.written: dict[str, tuple[int, str]] = {}  # by secret: the version and the time of its last write
        self.machines: dict[str, dict[str, Any]] = {}
        self.booted: dict[str, str | None] = {}
        self.leases: dict[str, str] = {}
        self.held_by_others: set[str] = set()
        self.sick: set[str] = set()
        self.crashing: set[str] = set()
        self.variable = ""
        self.check_delay = 0.5
        self.releases_work = True
        self.statuses: list[str] = []
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.updates: list[dict[str, Any]] = []
        self.at_once = 0
        self._counts: Counter[str] = Counter()
        for number in range(1, machines + 1):
            self.add(f"m{number}")

    def add(
        self,
        machine_id: str,
        *,
        state: str = "started",
        checked: bool = True,
        value: str | None = None,
        environment: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Adds a machine that has booted with `value`, by default with the present one."""
        config: dict[str, Any] = {
            "image": "cp:1",
            "env": {"KEEP": "1", **(environment or {})},
            "metadata": {"fly_process_group": "app", **(metadata or {})},
        }
        if checked:
            config["checks"] = {"http": {"type": "http"}}
        self.machines[machine_id] = {
            "id": machine_id,
            "state": state,
            "instance_id": f"{machine_id}-v1",
            "region": "ams",
            "host_status": "ok",
            "config": config,
            "updated_at": self.clock.utc(),
            "events": [self._event("launch")],
        }
        self.booted[machine_id] = value if value is not None else self._value_for(config)
        self.check(machine_id, "passing")

    def _value_for(self, config: Mapping[str, Any]) -> str | None:
        """What a machine of that configuration boots with now."""
        if self.variable:
            return dict(config.get("env") or {}).get(self.variable)
        return self.secrets.get("TOKEN")

    def _suffers(self, machine_id: str, values: set[str]) -> bool:
        booted = self.booted[machine_id]
        return booted in values or f"{machine_id} {booted}" in values

    def destroy(self, machine_id: str) -> None:
        """Destroys a machine. Fly forgets it at once."""
        self.log.append(f"destroy {machine_id}")
        del self.machines[machine_id]
        self.leases.pop(machine_id, None)

    def environment(self, machine_id: str) -> dict[str, str]:
        """What a machine's configuration says, less what all have."""
        found = dict(self.machines[machine_id]["config"]["env"])
        assert found.pop("KEEP") == "1", "the rest of the environment is sent back whole"
        return found

    def wait_for_each_other(self, machines: int) -> None:
        """From now on so many machines restart side by side: but for m1, none has started before all of them were updated."""
        together = threading.Barrier(machines)

        def waits(kind: str, path: str, _number: int) -> None:
            if kind == "GET /machines/ID/wait" and "/m1/" not in path:
                self.lock.release()
                try:
                    together.wait(60)
                finally:
                    self.lock.acquire()

        self.faults.append(waits)

    def _event(self, kind: str) -> dict[str, Any]:
        moment = datetime.fromisoformat(self.clock.utc()).timestamp()
        return {"id": f"{kind} {moment}", "type": kind, "timestamp": math.ceil(moment * 1000)}

    def check(self, machine_id: str, status: str) -> None:
        """Records a result of the machine's health check."""
        machine = self.machines[machine_id]
        machine["checks"] = []
        if machine["config"].get("checks"):
            machine["checks"] = [{"name": "http", "status": status, "updated_at": self.clock.utc()}]

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answers one request."""
        path = request.url.path
        kind = re.sub(r"/m\d+", "/ID", f"{request.method} {path.removeprefix('/v1/apps/cp')}")
        with self.lock:
            self._counts[kind] += 1
            for fault in self.faults:
                answer = fault(kind, path, self._counts[kind])
                if isinstance(answer, Exception):
                    raise answer
                if answer is not None:
                    return answer
            return self.act(request, kind)

    def act(self, request: httpx.Request, kind: str) -> httpx.Response:
        """What Fly does when nothing goes wrong."""
        machine_id = next(iter(re.findall(r"/(m\d+)", request.url.path)), "")
        if "release" in kind or kind == "POST /graphql":
            return self._release(request, kind)
        if machine_id and machine_id not in self.machines:
            return reply(404, {"error": "machine not found"})
        answers: dict[str, Callable[[], httpx.Response]] = {
            "GET /secrets": lambda: reply(200, {"secrets": self._listed()}),
            "POST /secrets": lambda: self._write(body_of(request)["values"]),
            "GET /machines": lambda: reply(200, [self.now(each) for each in self.machines]),
            "GET /machines/ID": lambda: reply(200, self.now(machine_id)),
            "POST /machines/ID": lambda: self._update(machine_id, request),
            "GET /machines/ID/wait": lambda: reply(200, {"ok": True}),
            "POST /machines/ID/lease": lambda: self._lease(machine_id, request),
            "DELETE /machines/ID/lease": lambda: self._give_back(machine_id),
        }
        return answers[kind]()

    def _listed(self) -> list[dict[str, str]]:
        listed = []
        for name in self.secrets:
            version, at = self.written.get(name, (self.version, self.born))
            listed.append({"name": name, "digest": f"digest of {name} {version}", "updated_at": at})
        return listed

    def _write(self, values: dict[str, str | None]) -> httpx.Response:
        self.keep(values)
        self.log.append(f"write {self.version}")
        return reply(200, {"secrets": self._listed(), "version": self.version})

    def keep(self, values: dict[str, str | None]) -> None:
        """Takes secrets over, from whomever. Machines keep what they booted with."""
        self.version += 1
        for name, value in values.items():
            if value is None:
                self.secrets.pop(name, None)
                self.written.pop(name, None)
            else:
                self.secrets[name] = value
                self.written[name] = (self.version, self.clock.utc())

    def restart(self, *machine_ids: str) -> None:
        """What a deployment does, which is none of the program's: machines boot with the secrets of the moment."""
        for machine_id in machine_ids or tuple(self.machines):
            self.change(machine_id, self.machines[machine_id]["config"], launch=True)

    def _lease(self, machine_id: str, request: httpx.Request) -> httpx.Response:
        nonce = request.headers.get("fly-machine-lease-nonce")
        if nonce and self.leases.get(machine_id) == nonce:
            self.log.append(f"renew {machine_id}")
            return reply(201, {"status": "success", "data": {"nonce": nonce}})
        if nonce:
            return reply(404, {"error": "no such lease"})
        if machine_id in self.held_by_others or machine_id in self.leases:
            return reply(409, {"error": "lease currently held by somebody@tokens.fly.io"})
        self.leases[machine_id] = f"nonce of {machine_id}"
        self.log.append(f"lease {machine_id}")
        return reply(201, {"status": "success", "data": {"nonce": self.leases[machine_id]}})

    def _give_back(self, machine_id: str) -> httpx.Response:
        self.leases.pop(machine_id, None)
        self.log.append(f"release {machine_id}")
        return reply(200)

    def _update(self, machine_id: str, request: httpx.Request) -> httpx.Response:
        body = body_of(request)
        machine = self.machines[machine_id]
        if self.leases.get(machine_id) != request.headers.get("fly-machine-lease-nonce"):
            return reply(409, {"error": "lease currently held"})
        if body["current_version"] != machine["instance_id"]:
            return reply(409, {"error": "current_version does not match"})
        if body["min_secrets_version"] > self.version:
            return reply(412, {"error": f"min_secrets_version {body['min_secrets_version']} is not yet available"})
        self.updates.append({"machine": machine_id, **body})
        return reply(200, self.change(machine_id, body["config"], launch=not body["skip_launch"]))

    def change(self, machine_id: str, config: dict[str, Any], *, launch: bool) -> dict[str, Any]:
        """Gives a machine a new version, and starts it."""
        machine = self.machines[machine_id]
        number = int(machine["instance_id"].rpartition("v")[2]) + 1
        machine |= {"config": config, "instance_id": f"{machine_id}-v{number}", "updated_at": self.clock.utc()}
        value = self._value_for(config)
        self.booted[machine_id] = value
        self.log.append(f"{'boot' if launch else 'keep'} {machine_id} {value}")
        machine["events"] = [self._event("update"), *machine["events"]]
        if launch:
            crashes = self._suffers(machine_id, self.crashing)
            machine["state"] = "stopped" if crashes else "started"
            machine["_boot"] = self.clock.monotonic()
            self.at_once = max(self.at_once, sum("_boot" in each for each in self.machines.values()))
            if crashes:
                event = {"id": f"e{number}", "type": "exit", "request": {"exit_event": EXIT, "restart_count": 3}}
                machine["events"] = [event, *machine["events"]]
        return self.now(machine_id)

    def now(self, machine_id: str) -> dict[str, Any]:
        """A machine as the API shows it at this moment. After a boot its check keeps the old result until it has run again."""
        machine = self.machines[machine_id]
        boot = machine.get("_boot")
        if boot is not None and self.clock.monotonic() > boot + self.check_delay:
            del machine["_boot"]
            self.check(machine_id, "critical" if self._suffers(machine_id, self.sick) else "passing")
        return {key: value for key, value in machine.items() if not key.startswith("_")}

    def _release(self, request: httpx.Request, kind: str) -> httpx.Response:
        if not self.releases_work:
            return reply(422, {"error": "no releases today"})
        if kind == "POST /graphql":
            return reply(
                200, {"data": {"app": {"currentReleaseUnprocessed": {"configDefinition": {}, "imageRef": "i"}}}}
            )
        if request.method == "POST":
            return reply(201, {"release": {"id": "r1", "version": 5}})
        self.statuses.append(body_of(request)["status"])
        return reply(200, {})

    @property
    def moves(self) -> list[str]:
        """Writes and restarts, in order."""
        return [line for line in self.log if line.split()[0] in {"write", "boot", "keep"}]
