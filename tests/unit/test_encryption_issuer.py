"""Is it said what a rotation of the key costs, and is one refused that would lose rows? The database itself is in tests/sandbox."""

import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

import pytest

from components.encryption import issuer as module
from components.encryption.issuer import (
    CHECK_SECONDS,
    POLLING_SECONDS,
    RESTART_SECONDS,
    WRITE_FACTOR,
    EncryptionKeys,
    Interruption,
    about,
    check_interval,
    interruption,
    restart_seconds,
)
from components.encryption.reencryption import KnownKeys, Reencryption
from components.encryption.rows import BrokenOffError, Cipher, Database, Outcome, Survey
from components.errors import OperatorError, RefusedError
from components.fly.client import FlyClient, Machine, MachineCheck
from components.http import ApiError
from components.keyring import Credential
from components.neon.client import NeonClient

from .wire import START

KEY, OTHER = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
DIGITS = bytes(32).hex()
CHECKS = {"http": {"type": "http", "interval": "15s"}}


def event(kind: str, seconds: float) -> dict[str, Any]:
    return {"id": f"{kind} {seconds}", "type": kind, "timestamp": round((START.timestamp() + seconds) * 1000)}


def machine(
    number: int = 1,
    *,
    started: float | None = 2.0,
    checked: float | None = 5.0,
    state: str = "started",
    checks: dict[str, Any] | None = None,
    older: tuple[dict[str, Any], ...] = (),
) -> Machine:
    """Updated at 0, started and checked so many seconds later."""
    events = [event("update", 0), *older]
    if started is not None:
        events.insert(0, event("start", started))
    at = "" if checked is None else (START + timedelta(seconds=checked)).isoformat()
    return Machine(
        machine_id=f"m{number}",
        state=state,
        instance_id="v1",
        region="ams",
        host_status="ok",
        config={"checks": CHECKS if checks is None else checks},
        checks=(MachineCheck(name="http", status="passing", updated_at=at),),
        events=tuple(events),
    )


# How long it takes


@pytest.mark.parametrize(
    ("of", "seconds"),
    [
        (machine(), 5.0),
        (machine(checked=1.0), 2.0 + 15.0),  # a result of before the start says nothing
        (machine(checked=400.0), 2.0 + 15.0),  # nor does one that came so late: it has changed since
        (machine(checked=None), 2.0 + 15.0),
        (machine(checks={}), 2.0),
        (machine(older=(event("start", -60), event("launch", -62))), 5.0),
        (replace(machine(), events=(event("start", 70), event("start", 2), event("update", 0))), 5.0),
    ],
)
def test_a_restart_is_as_long_as_the_machines_events_say(of: Machine, seconds: float) -> None:
    assert restart_seconds(of) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("of", [machine(started=None), replace(machine(), events=()), machine(started=-3)])
def test_a_machine_that_was_never_seen_to_restart_says_nothing(of: Machine) -> None:
    assert restart_seconds(of) is None


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        ("15s", 15),
        ("1m", 60),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        (10_000_000_000, 10),
        (None, CHECK_SECONDS),
        ("x", CHECK_SECONDS),
    ],
)
def test_an_interval_is_a_duration_or_nanoseconds(interval: object, seconds: float) -> None:
    of_service = replace(machine(), config={"services": [{"checks": [{"interval": interval}]}, {}]})
    assert check_interval(machine(checks={"a": {"interval": interval}})) == seconds
    assert check_interval(of_service) == seconds


def test_batches_come_one_after_the_other_each_as_long_as_its_slowest_machine() -> None:
    machines = [machine(1, checked=4.0), machine(2, checked=8.0), machine(3, checked=6.0), machine(4, checked=7.0)]
    estimate = interruption(in_memory=0.5, control_plane=machines, tenants=machines[:1], max_unavailable=2)
    assert estimate.rows_seconds == pytest.approx(0.5 * WRITE_FACTOR)
    assert estimate.control_plane_seconds == pytest.approx(4 + 8 + 7 + 3 * POLLING_SECONDS, abs=0.05)
    assert estimate.tenants_seconds == pytest.approx(4 + POLLING_SECONDS, abs=0.05)
    assert estimate.total == pytest.approx(
        estimate.rows_seconds + estimate.control_plane_seconds + estimate.tenants_seconds
    )


def test_machines_that_do_not_run_are_not_waited_for_and_no_machines_take_no_time() -> None:
    idle = [machine(2, state="stopped"), machine(3, state="suspended")]
    estimate = interruption(in_memory=0, control_plane=[machine(1), *idle], tenants=[], max_unavailable=1)
    assert estimate.control_plane_seconds == pytest.approx(5 + POLLING_SECONDS, abs=0.01)
    assert replace(estimate, control_plane_seconds=0) == Interruption(
        rows_seconds=0, control_plane_seconds=0, tenants_seconds=0
    )


def test_a_machine_that_says_nothing_takes_as_long_as_the_slowest_that_does() -> None:
    silent = machine(2, started=None)
    one = interruption(in_memory=0, control_plane=[machine(1), silent], tenants=[], max_unavailable=1)
    assert one.control_plane_seconds == pytest.approx(2 * (5 + POLLING_SECONDS), abs=0.01)
    none = interruption(in_memory=0, control_plane=[silent], tenants=[], max_unavailable=1)
    assert none.control_plane_seconds == pytest.approx(RESTART_SECONDS + POLLING_SECONDS)


def test_a_machine_whose_check_has_changed_since_is_taken_to_be_like_the_others() -> None:
    flapped = machine(2, checked=400.0)
    estimate = interruption(in_memory=0, control_plane=[machine(1), flapped], tenants=[], max_unavailable=1)
    assert estimate.control_plane_seconds == pytest.approx(2 * (5 + POLLING_SECONDS), abs=0.01)
    apart = interruption(in_memory=0, control_plane=[flapped], tenants=[machine(1)], max_unavailable=1)
    assert apart.control_plane_seconds == pytest.approx(5 + POLLING_SECONDS, abs=0.01)
    alone = interruption(in_memory=0, control_plane=[flapped], tenants=[], max_unavailable=1)
    assert alone.control_plane_seconds == pytest.approx(2 + 15 + POLLING_SECONDS, abs=0.01)


def test_more_tenants_take_more_batches() -> None:
    fifty = [machine(number) for number in range(50)]
    seconds = [
        interruption(in_memory=0, control_plane=[], tenants=fifty, max_unavailable=share).tenants_seconds
        for share in (0.33, 0.1, 1)
    ]
    assert seconds == pytest.approx([each * (5 + POLLING_SECONDS) for each in (4, 11, 50)], abs=0.5)


def test_an_estimate_is_said_in_whole_seconds() -> None:
    assert (about(0.2), about(7.0), about(7.1)) == ("about 1 s", "about 7 s", "about 8 s")


# What stands in the way


class FakeRows:
    """Stands for the table."""

    def __init__(self, survey: Survey, faults: tuple[RefusedError, ...] = ()) -> None:
        self.found, self.faults, self.surveys = survey, faults, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def obstacles(self) -> list[RefusedError]:
        """As they were given."""
        return list(self.faults)

    def survey(self, cipher: Cipher, *, rehearse: bool = False) -> Survey:
        """What was given, as far as there are keys for it."""
        del rehearse
        self.surveys += 1
        known = (0, *self.found.under)[: cipher.keys]
        return replace(self.found, under=known, unreadable=self.found.values - sum(known))


class FakeFly(FlyClient):
    """Two machines of the control plane, three of tenants of which two have the key."""

    def list_machines(self, app: str) -> list[Machine]:
        """Those of one app."""
        tenants = [machine(number) for number in range(3)]
        for each in tenants[:2]:
            each.config["env"] = {module.SECRET: "value"}  # type: ignore[index]
        return {"cp": [machine(1), machine(2)], "tenant": tenants}[app]


def credential(value: str) -> Credential:
    return Credential(generation=1, credential_id="c", name="c", value=value, created_at="2026-11-23T12:00:00+00:00")


def keys(monkeypatch: pytest.MonkeyPatch, rows: FakeRows, **changed: Any) -> EncryptionKeys:  # noqa: ANN401 - any attribute
    monkeypatch.setattr(module, "OrgInstances", lambda _uri: rows)
    told: dict[str, Any] = {
        "database": Database(client=NeonClient("napi"), project="p", branch="", database="db", role="owner"),
        "fly": FakeFly("token"),
        "app": "cp",
        "tenant_app": "tenant",
        "max_unavailable": 0.33,
        "strategy": "reencrypt",
        "encoding": "base64",
        "loader": "base64",
        "reprovision_path": "",
        "key_before": "",
        "given": "",
        "keyring": (credential(KEY),),
    }
    return EncryptionKeys(**{**told, **changed})


WELL = Survey(rows=1560, values=3120, under=(3120,), seconds=0.5)


def test_nothing_stands_in_the_way_where_every_row_decrypts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = FakeRows(WELL)
    it = keys(monkeypatch, rows)
    assert it.obstacles_beside_the_value() == []
    (limit,) = it.warnings()
    cost = it.outage
    seconds = it.interruption()
    assert f"interrupted for about {-(-seconds.total // 1):.0f} s" in cost
    assert "3,120 encrypted values of 1,560 orgs" in cost
    assert "every machine of cp and 2 of tenant" in cost
    assert "rows about 2 s" in cost
    assert "not encrypted anew" in limit
    assert rows.surveys == 1, "one look is enough"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoding": "hex"}, "64 hex digits"),
        ({"strategy": "reprovision"}, "`reprovisionPath` is ''"),
        ({"strategy": "reprovision", "reprovision_path": "cp/orgs/{slug}"}, "`reprovisionPath` is 'cp/orgs/{slug}'"),
        ({"strategy": "reprovision", "reprovision_path": "/cp/orgs"}, "`reprovisionPath` is '/cp/orgs'"),
        ({"keyring": ()}, "the key that they were encrypted with is not known"),
        ({"keyring": (credential(""),)}, "the key that they were encrypted with is not known"),
        ({"keyring": (credential(DIGITS),)}, "a key that this stack has minted: it is 64 hex digits"),
        ({"keyring": (), "key_before": DIGITS}, "the key in `encryptionKeyBefore`: it is 64 hex digits"),
        ({"keyring": (), "key_before": KEY + "\n"}, "the key in `encryptionKeyBefore`: there is a space or a line end"),
    ],
)
def test_settings_that_would_lose_rows_are_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], said: str
) -> None:
    faults = keys(monkeypatch, FakeRows(WELL), **changed).obstacles_beside_the_value()
    assert [said in fault.happened for fault in faults] == [True]
    assert KEY not in str(faults)
    assert DIGITS not in str(faults)


@pytest.mark.parametrize(
    "changed",
    [
        {"encoding": "hex", "loader": "hex"},
        {"strategy": "reprovision", "reprovision_path": "/cp/orgs/{slug}/again"},
        {"strategy": "reprovision", "reprovision_path": "/cp/orgs/{slug}/again", "keyring": ()},
        {"keyring": (), "key_before": KEY},
        {"keyring": (credential(KEY), credential(OTHER)), "key_before": OTHER},
    ],
)
def test_settings_that_fit_are_not(monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]) -> None:
    assert keys(monkeypatch, FakeRows(WELL), **changed).obstacles_beside_the_value() == []


def test_a_stack_without_rows_needs_no_key_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys(monkeypatch, FakeRows(Survey()), keyring=()).obstacles_beside_the_value() == []
    assert keys(monkeypatch, FakeRows(Survey()), keyring=(), key_before=KEY).obstacles_beside_the_value() == []


@pytest.mark.parametrize(
    ("survey", "changed", "said"),
    [
        (
            replace(WELL, under=(0,)),
            {"keyring": (), "key_before": KEY},
            "`encryptionKeyBefore` decrypts none of the 3,120",
        ),
        (
            replace(WELL, under=(3000,)),
            {"keyring": (), "key_before": KEY},
            "120 of 3,120 encrypted values decrypt with no key",
        ),
        (replace(WELL, under=(0,)), {}, "3,120 of 3,120 encrypted values decrypt with no key"),
        (replace(WELL, under=(3119,), unreadable_rows=("id-7",)), {}, "1 of 3,120 .*org_instances id-7. With"),
        (replace(WELL, under=(3118,), unreadable_rows=("id-7",)), {}, "2 of 3,120 .*org_instances id-7 and others"),
        (replace(WELL, under=(3000,), later_format=120), {}, "begin with the mark of a later format"),
        (replace(WELL, under=(3000,), later_format=119), {}, "120 of 3,120 encrypted values decrypt with no key"),
    ],
)
def test_rows_that_no_key_decrypts_are_refused(
    monkeypatch: pytest.MonkeyPatch, survey: Survey, changed: dict[str, Any], said: str
) -> None:
    (fault,) = keys(monkeypatch, FakeRows(survey), **changed).obstacles_beside_the_value()
    with pytest.raises(RefusedError, match=said):
        raise fault
    assert KEY not in str(fault)


def test_a_role_without_rights_is_refused_before_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = FakeRows(WELL, (RefusedError("no right to UPDATE", next_step="grant it."),))
    assert [each.happened for each in keys(monkeypatch, rows).obstacles_beside_the_value()] == ["no right to UPDATE"]
    assert rows.surveys == 0


def test_a_given_key_has_to_be_read_by_its_consumers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = FakeRows(WELL)
    assert keys(monkeypatch, rows, given=OTHER).obstacles() == []
    (fault,) = keys(monkeypatch, rows, given=DIGITS).obstacles()
    assert "would misread the new key" in fault.happened
    assert DIGITS not in str(fault)


def test_an_old_key_is_dead_when_no_row_decrypts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows(FakeRows):
        def survey(self, cipher: Cipher, *, rehearse: bool = False) -> Survey:
            del cipher, rehearse
            return self.found

    assert not keys(monkeypatch, Rows(replace(WELL, under=(1,)))).refuses(KEY)
    assert keys(monkeypatch, Rows(replace(WELL, under=(0,)))).refuses(KEY)
    assert keys(monkeypatch, Rows(replace(WELL, under=(1,)))).refuses(DIGITS), "nobody can read it"


def test_reprovisioning_says_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    it = keys(monkeypatch, FakeRows(WELL), strategy="reprovision", reprovision_path="/cp/{slug}", keyring=())
    cost = it.outage
    assert it.warnings() == [], "that is not encrypted anew, either"
    assert "1,560 orgs get a fresh database and a fresh machine" in cost
    assert "not carried over" in cost


def test_no_key_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    it = keys(monkeypatch, FakeRows(WELL), given=OTHER, key_before=KEY)
    assert KEY not in repr(it)
    assert OTHER not in repr(it)
    known = KnownKeys.of("base64", [KEY], lambda _key: OTHER)
    assert KEY not in repr(known)
    assert OTHER not in repr(known)


# The companion, where no database is needed


def companion(stack: list[str], operator: str = "") -> Reencryption:
    database = Database(client=NeonClient("napi"), project="p", branch="", database="db", role="owner")
    known = KnownKeys.of("base64", stack, lambda _key: operator)
    return Reencryption(database, key=OTHER, known=known, report=lambda _line: None)


@pytest.mark.parametrize(
    ("stack", "operator", "before"), [([], "", ""), ([KEY], OTHER, KEY), ([], KEY, KEY), (["", KEY], "", KEY)]
)
def test_the_key_before_is_the_first_that_is_known(stack: list[str], operator: str, before: str) -> None:
    assert companion(stack, operator).key_before == before


def test_a_key_that_would_be_misread_stops_it_before_anything_is_asked() -> None:
    with pytest.raises(OperatorError, match="64 hex digits") as refused:
        companion([DIGITS]).check()
    assert refused.value.state == "nothing was changed."
    with pytest.raises(OperatorError, match="encryptionKeyBefore"):
        companion([], "short").forward()


def test_it_goes_nowhere_back_to_where_no_key_is_known() -> None:
    companion([]).back()


def test_what_broke_off_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(FakeRows):
        def reencrypt(self, _cipher: Cipher, *, progress: object) -> Outcome:
            del progress
            cause = ApiError("PostgreSQL", "write org_instances", status=None, reason="AdminShutdown 57P01")
            raise BrokenOffError(cause, done=4000, total=10000)

    monkeypatch.setattr("components.encryption.reencryption.OrgInstances", lambda _uri, **_: Lost(WELL))
    with pytest.raises(OperatorError, match="AdminShutdown") as lost:
        companion([KEY]).forward()
    assert "4,000 of 10,000 rows are known to be encrypted with the new key" in lost.value.state
    assert "goes on where it stopped" in lost.value.next_step
