"""Stacks as the engine describes them, for the tests of the report: an eventful one, and what an enemy would name things."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 26, 18, 40, 0, tzinfo=UTC)
CONTROL_PLANE = ("Fly app molecule-cp", "machines of molecule-cp")
REPOSITORY = ("GitHub repository Molecule-AI/molecule-monorepo", "workflow publish-platform-image.yml")
REDIS = ("machines of Fly app molecule-tenant as REDIS_URL", "machines of tenants")
KEYS = ("machines of Fly app molecule-tenant as SECRETS_ENCRYPTION_KEY", "machines of tenants")
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x00\x1b[31m\u202ehidden\ud800]]></svg></style>{{ 7*7 }}"
)
ENCRYPTED = "v1:ClPm1J2XxN5kM8Qe:an-encrypted-value"
PLAIN_CONFIG = "https://a-host-that-the-report-has-no-use-for.example"


def at(**ago: float) -> str:
    """A time before NOW as the program writes it."""
    return (NOW - timedelta(**ago)).isoformat()


def rotation(
    generation: int, minted: str, *, deliver: float = 21, verify: float = 74, revoke: float = 78, **other: object
) -> dict[str, Any]:
    """A rotation that went through all four steps; `deliver`, `verify` and `revoke` are seconds after the mint."""
    begun = datetime.fromisoformat(minted)
    return {
        "generation": generation,
        "reason": "routine",
        "minted_at": minted,
        "delivered_at": (begun + timedelta(seconds=deliver)).isoformat(),
        "verified_at": (begun + timedelta(seconds=verify)).isoformat(),
        "revoked_at": (begun + timedelta(seconds=revoke)).isoformat(),
        "revoked": [f"g{generation - 1}"] if generation > 1 else [],
        **other,
    }


def secret(*locations: tuple[str, str], timeline: tuple[dict[str, Any], ...] = (), **other: object) -> dict[str, Any]:
    """What the stack exports of one secret; of a rotated one, the first of `timeline` is what it stands at."""
    last = timeline[0] if timeline else rotation(1, at(days=10))
    return {
        "generation": last["generation"],
        "credential_id": "xs902n02g4q2t12g0q9sj6ted3",
        "minted_at": last["minted_at"],
        "verified_at": last["verified_at"],
        "rotate_by": (datetime.fromisoformat(last["minted_at"]) + timedelta(days=90)).isoformat(),
        "overdue": False,
        "reason": last["reason"],
        "alive": [],
        "unmanaged": [],
        "locations": [location for location, _ in locations],
        "consumers": [consumer for _, consumer in locations],
        "staged": None,
        "timeline": list(timeline),
        **other,
    }


def outputs() -> dict[str, Any]:
    """The outputs of a stack in which much has happened."""
    leak = at(days=2, hours=3)
    year = at(days=88)
    return {
        "secrets": {
            "DATABASE_URL": secret(CONTROL_PLANE, timeline=(rotation(2, year), rotation(1, at(days=180)))),
            "FLY_API_TOKEN": secret(
                CONTROL_PLANE,
                REPOSITORY,
                timeline=(
                    rotation(
                        4,
                        leak,
                        reason="leaked",
                        deliver=38,
                        verify=161,
                        revoke=169,
                        revoked=["molecule-cp-rotation-production-FLY_API_TOKEN-g3"],
                    ),
                    rotation(3, year, deliver=41, verify=420, revoke=431),
                    rotation(2, at(days=180), deliver=41, verify=300, revoke=306),
                ),
                unmanaged=[{"id": "8nzctr1qzm", "name": "molecule-cp-rotation-20260101", "created_at": at(days=329)}],
            ),
            "NEON_API_KEY": secret(
                CONTROL_PLANE, timeline=(rotation(3, leak, deliver=38, verify=96, revoke=97), rotation(2, year))
            ),
            "RESEND_API_KEY": secret(CONTROL_PLANE, staged=3, timeline=(rotation(2, at(days=60)),)),
            "RESEND_FROM_EMAIL": secret(
                CONTROL_PLANE, rotate_by="", timeline=(rotation(1, at(days=180), revoked_at=at(days=180)),)
            ),
            "SECRETS_ENCRYPTION_KEY": secret(
                CONTROL_PLANE,
                KEYS,
                generation=0,
                credential_id="",
                verified_at="",
                minted_at="",
                rotate_by="",
                reason="",
            ),
            "STRIPE_API_KEY": secret(
                CONTROL_PLANE,
                timeline=(
                    rotation(2, at(hours=6), deliver=25, verify=44, revoked_at="", revoked=[]),
                    rotation(1, year, revoke=90_000, revoked=["the key before the first"]),
                ),
                alive=[{"credential_id": "sk_live_…4eC3", "lives_until": (NOW + timedelta(days=3)).isoformat()}],
            ),
            "STRIPE_WEBHOOK_SECRET": secret(CONTROL_PLANE, timeline=(rotation(2, at(days=12)),)),
            "TENANT_REDIS_URL": secret(
                CONTROL_PLANE,
                REDIS,
                overdue=True,
                rotate_by=at(days=4),
                timeline=(rotation(5, at(days=94), deliver=240, verify=280, revoke=285),),
            ),
        },
        "notManaged": {"GITHUB_TOKEN": "it is built into GitHub Actions, which mints a new one for every job."},
        "impact": {
            "summary": "FLY_API_TOKEN 3 → 4 (leaked), NEON_API_KEY 2 → 3: one rolling restart of molecule-cp (3 machines).",
            "secrets": {"FLY_API_TOKEN": {"restarts": 3}},
        },
    }


def config(**counters: int) -> dict[str, Any]:
    """The config of an update, with what must never be shown beside the counters."""
    return {
        "molecule-secrets:rotations": {"value": "{}", "objectValue": counters, "secret": False},
        "molecule-secrets:controlPlaneUrl": {"value": PLAIN_CONFIG, "secret": False},
        "molecule-secrets:supplied": {"value": ENCRYPTED, "secret": True},
        "molecule-secrets:stripeApiKey": {"secret": True},
    }


def update(result: str, started: str, seconds: float, counters: Mapping[str, int], **changes: int) -> dict[str, Any]:
    """An entry of the history."""
    return {
        "version": 0,
        "kind": "update",
        "startTime": started,
        "endTime": (datetime.fromisoformat(started) + timedelta(seconds=seconds)).isoformat(),
        "result": result,
        "message": "a commit message that is of no use here",
        "environment": {"git.author.email": "somebody@molecule.example"},
        "config": config(**counters),
        "resourceChanges": changes,
    }


def history() -> list[dict[str, Any]]:
    """The history of that stack, newest first: the last one failed."""
    before = {"FLY_API_TOKEN": 3, "NEON_API_KEY": 2, "STRIPE_API_KEY": 1, "TENANT_REDIS_URL": 5}
    after = {**before, "FLY_API_TOKEN": 4, "NEON_API_KEY": 3}
    return [
        update("failed", at(minutes=50), 95, {**after, "STRIPE_API_KEY": 2, "SECRETS_ENCRYPTION_KEY": 1}, same=30),
        update("succeeded", at(hours=6, minutes=1), 71, {**after, "STRIPE_API_KEY": 2}, same=28, update=3, replace=1),
        update("succeeded", at(days=2, hours=3, minutes=1), 241, after, same=21, update=6, replace=4),
        update("succeeded", at(days=88, minutes=1), 500, before, create=31),
    ]


def hostile() -> dict[str, Any]:
    """The outputs of a stack in which everything that can be named was named by an enemy."""
    long = "x" * 5000
    named = secret(
        (HOSTILE, HOSTILE),
        (long, long),
        credential_id=HOSTILE,
        reason=HOSTILE,
        alive=[{"credential_id": HOSTILE, "lives_until": HOSTILE}],
        unmanaged=[{"id": HOSTILE, "name": long, "created_at": HOSTILE}],
        timeline=(rotation(2, at(days=1), reason=HOSTILE, revoked=[HOSTILE, long]),),
    )
    return {
        "secrets": {HOSTILE: named, long: named, "W" * 64: named},
        "notManaged": {HOSTILE + "2": HOSTILE, long: long},
        "impact": {"summary": f"{HOSTILE}\n{long}"},
    }
