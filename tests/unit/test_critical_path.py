"""The critical path of the benchmarks: computed from requests of which it is known what they were for."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tools.bench.critical_path import batches, critical_path, restarts

START = datetime(2026, 11, 26, tzinfo=UTC)
APP, TENANT_APP = "molecule-cp", "molecule-tenant"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def request(began: float, took: float, method: str, target: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "at": at(began).isoformat(),
        "answered_at": at(began + took).isoformat(),
        "provider": "fly",
        "method": method,
        "target": target,
        "template": "/v1/apps/{app}/machines/{machine}" if "/machines/" in target else target,
        "agent": None,
        "status": 200,
        **more,
    }


def purpose(text: str) -> dict[str, str]:
    return {"agent": f"molecule-secrets ({text})"}


def machine(began: float, app: str, name: str) -> dict[str, Any]:
    return request(began, 0.1, "POST", f"/v1/apps/{app}/machines/{name}")


REQUESTS = [
    request(0, 1, "GET", "/keys", **purpose("mint A")),  # a read before the first write is not needed
    request(1, 2, "POST", "/keys", **purpose("mint A")),
    request(0, 0.5, "POST", "/graphql createLimitedAccessToken", **purpose("mint B")),
    request(3, 0.2, "GET", "/probe", **purpose("check A")),
    request(4, 0.5, "POST", f"/v1/apps/{APP}/secrets"),
    machine(5, APP, "m1"),
    machine(9, APP, "m2"),
    machine(9.2, APP, "m3"),
    machine(14, TENANT_APP, "t1"),
    machine(14, TENANT_APP, "gone"),
    request(20, 0.3, "GET", "/repos/o/r/actions/secrets/public-key", provider="github"),
    request(21, 0.4, "PUT", "/repos/o/r/actions/secrets/B", provider="github"),
    request(22, 0.5, "GET", "/a", **purpose("check A")),
    request(25, 1, "GET", "/a", **purpose("check A")),
    request(22, 2, "GET", "/b", **purpose("check B")),
    request(26, 1, "POST", "/graphql app", **purpose("revoke B")),  # a read by POST
    request(27, 1, "POST", "/graphql deleteLimitedAccessToken", **purpose("revoke B")),
    request(28, 2, "GET", "/proof", **purpose("revoke B")),
    request(27, 0.25, "DELETE", "/keys/1", **purpose("revoke A")),
]
HEALTHY = {"m1": at(8), "m2": at(12), "m3": at(13), "t1": at(17)}


def chain(**more: Any) -> Any:  # noqa: ANN401
    return critical_path(
        REQUESTS,
        tenant_app=TENANT_APP,
        healthy_since=HEALTHY,
        **{
            "app": {"A": APP, "B": APP},
            "secrets": ["A", "B"],
            "held_by_tenants": set(),
            "in_repository": set(),
            **more,
        },
    )


def test_every_link_is_what_somebody_has_to_wait_for() -> None:
    found = chain(secrets=["A"])
    assert found.secret == "A"
    assert [(step.what, round(step.seconds, 3)) for step in found.steps] == [
        ("mint A", 2),
        ("write", 0.5),
        (f"1 of {APP}", 3),
        (f"2 of {APP}", 4),
        ("verify A", 4),
        ("revoke A", 0.25),
    ]
    assert round(found.seconds, 3) == 13.75


def test_the_longest_chain_counts_with_what_only_its_secret_waits_for() -> None:
    found = chain(held_by_tenants={"B"}, in_repository={"B"})
    assert found.secret == "B"
    assert [(step.what, round(step.seconds, 3)) for step in found.steps[4:]] == [
        (f"1 of {TENANT_APP}", 3),
        ("repository", 0.7),
        ("verify B", 2),
        ("revoke B", 3),
    ]


def test_the_last_repository_waits_for_the_pace_of_all_before_it() -> None:
    three = {"secrets": ["A", "B", "C"], "app": dict.fromkeys("ABC", APP)}
    found = chain(**three, in_repository={"A", "B", "C", "not rotated"}, pace=1.5)
    assert found.secret == "B"
    assert found.paced == 3
    assert found.seconds == chain(**three, in_repository={"A", "B", "C"}).seconds + 3


def test_no_app_waits_for_another_one_and_the_longest_of_them_counts() -> None:
    other = "other-cp"
    requests = [
        *REQUESTS,
        request(0, 6, "POST", "/keys", **purpose("mint C")),
        request(7, 0.25, "POST", f"/v1/apps/{other}/secrets"),
        machine(8, other, "o1"),
        request(6.5, 0.1, "GET", "/c", **purpose("check C")),  # its probe
        request(9, 1.5, "GET", "/c", **purpose("check C")),
    ]

    def found(boot: float) -> Any:  # noqa: ANN401
        return critical_path(
            requests,
            secrets=["A", "B", "C"],
            app={"A": APP, "B": APP, "C": other},
            tenant_app=TENANT_APP,
            healthy_since={**HEALTHY, "o1": at(8 + boot)},
            held_by_tenants=(),
            in_repository=(),
        )

    # B's app decides as long as the other one, with its slow mint, is done sooner: 14.5 s here, 6 + 0.25 + 1.5 + boot there.
    assert (found(6.5).secret, round(found(6.5).seconds, 3)) == ("B", 14.5)
    assert [(step.what, round(step.seconds, 3)) for step in found(7).steps] == [
        ("mint C", 6),
        ("write", 0.25),
        (f"1 of {other}", 7),
        ("verify C", 1.5),
        ("revoke C", 0),
    ]


def test_purposes_are_told_apart_by_the_whole_name() -> None:
    requests = [*REQUESTS, request(1, 9, "POST", "/keys", **purpose("mint A_LONGER"))]
    found = critical_path(
        requests,
        secrets=["A"],
        app={"A": APP},
        tenant_app=TENANT_APP,
        healthy_since=HEALTHY,
        held_by_tenants=(),
        in_repository=(),
    )
    assert found.steps[0].seconds == 2


def test_a_batch_ends_when_all_of_it_are_healthy_and_what_comes_later_is_the_next_one() -> None:
    found = batches(REQUESTS, APP, HEALTHY)
    assert [(each.machines, each.seconds) for each in found] == [(("m1",), 3), (("m2", "m3"), 4)]
    # Three machines of which two are updated before the first one is healthy, in whatever order the log has them.
    together = [machine(0.4, APP, "m3"), machine(0, APP, "m1"), machine(0.2, APP, "m2")]
    assert [each.machines for each in batches(together, APP, HEALTHY)] == [("m1", "m2", "m3")]
    assert batches([], APP, HEALTHY) == []


def test_machines_that_are_gone_and_refused_updates_are_no_restarts() -> None:
    refused = {**machine(30, APP, "m1"), "status": 412}
    assert restarts([*REQUESTS, refused], APP, HEALTHY) == 3
    assert restarts(REQUESTS, TENANT_APP, HEALTHY) == 1
