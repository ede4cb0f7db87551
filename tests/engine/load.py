"""A load of reads and writes while something is rotated: what its users see."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx

from tools.workspace import Workspace, exports

PAUSE = 0.1  # seconds between two requests of one kind
CLEANUP_TIMEOUT = 60  # seconds
SLUG = "load-"  # what the names of the load's own orgs begin with
ORG_PAUSE = 2.0  # seconds between two orgs: each is a process of its own


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One request that did not get what it asked for.

    Attributes:
        sent: When, seconds since the epoch.
        answered: When it was known to have failed.
        what: The request, and what came back.
    """

    sent: float
    answered: float
    what: str


@dataclass
class Load:
    """Counts what was asked and what failed.

    Attributes:
        asked: Requests, by kind.
        failures: Those that failed, in no order.
    """

    asked: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def interruption(self) -> tuple[float, float]:
        """From the first failed request to the answer to the last one, seconds since the epoch. Only after failures."""
        return min(each.sent for each in self.failures), max(each.answered for each in self.failures)

    def keep_asking(self, kind: str, request: Callable[[int], httpx.Response], pause: float) -> None:
        """Sends one request after the other until the load ends."""
        self.asked[kind] = 0
        for number in itertools.count():
            if self._ended.is_set():
                return
            sent = time.time()
            try:
                response = request(number)
                problem = "" if response.is_success else str(response.status_code)
            except httpx.HTTPError as error:
                problem = type(error).__name__
            self.asked[kind] += 1
            if problem:
                self.failures.append(Failure(sent=sent, answered=time.time(), what=f"{kind} {number}: {problem}"))
            self._ended.wait(pause)

    def end(self) -> None:
        """Lets every request that is under way be the last."""
        self._ended.set()


@contextlib.contextmanager
def load_on(stage: Workspace, *, slugs: tuple[str, ...] = ()) -> Iterator[Load]:
    """Orgs are listed, made and deleted through the control plane, and data read and written with every tenant of `slugs`."""
    environment = exports(stage.sandbox("env"))
    load, before = Load(), _tenants(stage)
    headers = {"authorization": f"Bearer {environment['CP_ADMIN_API_TOKEN']}"}
    with httpx.Client(base_url=environment["CONTROL_PLANE_URL"], headers=headers, timeout=15) as http:
        requests: list[tuple[str, Callable[[int], httpx.Response], float]] = [
            ("list orgs", lambda _: http.get("/cp/admin/orgs", params={"limit": 5}), PAUSE),
            ("make or delete an org", _makes_and_deletes_orgs(http), ORG_PAUSE),
            *((f"data of {slug}", _reads_and_writes_data(http, slug), PAUSE) for slug in slugs),
        ]
        threads = [threading.Thread(target=load.keep_asking, args=each) for each in requests]
        for thread in threads:
            thread.start()
        try:
            yield load
        finally:
            load.end()
            for thread in threads:
                thread.join()
            for org in http.get("/cp/admin/orgs").json()["orgs"]:
                if org["slug"].startswith(SLUG):
                    http.request("DELETE", f"/cp/admin/tenants/{org['slug']}", json={"confirm": org["slug"]})
            deadline = time.monotonic() + CLEANUP_TIMEOUT
            while _tenants(stage) > before:
                assert time.monotonic() < deadline, "machines of the load's own orgs are left"
                time.sleep(0.3)


def _tenants(stage: Workspace) -> int:
    return len(stage.inspect()["fly"]["apps"]["molecule-tenant"]["machines"])


def _makes_and_deletes_orgs(http: httpx.Client) -> Callable[[int], httpx.Response]:
    def request(number: int) -> httpx.Response:
        slug = f"{SLUG}{number // 2}"
        if number % 2 == 0:
            return http.post("/cp/admin/orgs", json={"slug": slug, "name": "Load", "owner_user_id": "user_load"})
        return http.request("DELETE", f"/cp/admin/tenants/{slug}", json={"confirm": slug})

    return request


def _reads_and_writes_data(http: httpx.Client, slug: str) -> Callable[[int], httpx.Response]:
    path = f"/cp/orgs/{slug}/data/load"

    def request(number: int) -> httpx.Response:
        return http.put(path, json={"value": str(number)}) if number % 2 == 0 else http.get(path)

    return request
