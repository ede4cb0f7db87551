"""What Fly shows of an app, as far as the checks of a rotation need it: nothing of it is secret, so that they share it (`shared_answers.py`).

A machine's whole configuration is another matter: the environment of a tenant's machine holds secrets.
"""

import secrets
from dataclasses import asdict, dataclass
from datetime import datetime

from components.fly.client import FlyClient, machines_api
from components.fly.rollout import health, should_run
from components.http import ApiError
from components.shared_answers import shared

LISTED_FOR = 60.0  # seconds for which a machine is likely to be there


@dataclass(frozen=True, kw_only=True)
class ShownMachine:
    """A machine of an app.

    Attributes:
        machine_id: Fly's id.
        configured_at: As `Machine.configured_at`, RFC 3339; "" where Fly does not say.
        illness: What keeps it from being healthy; "" where nothing does, or where it is not to run.
    """

    machine_id: str
    configured_at: str
    illness: str

    def has_booted_since(self, moment: datetime) -> bool:
        """Whether it has got the secrets of `moment`, by Fly's clock. False where Fly does not say."""
        return bool(self.configured_at) and datetime.fromisoformat(self.configured_at) >= moment


def machines_of(fly: FlyClient, app: str, *, older: float = 0.0) -> list[ShownMachine]:
    """The app's machines, less destroyed ones, sorted by id. Raises ApiError.

    Args:
        fly: Asks.
        app: The app.
        older: Seconds by which the answer may be older than this call.
    """

    def ask() -> list[dict[str, str]]:
        return [
            asdict(
                ShownMachine(
                    machine_id=each.machine_id,
                    configured_at=each.configured_at.isoformat() if each.configured_at else "",
                    illness=health(each, since=None) if should_run(each) else "",
                )
            )
            for each in fly.list_machines(app)
        ]

    return [ShownMachine(**each) for each in shared(_question(fly, "machines", app), ask, older=older)]


def written_of(fly: FlyClient, app: str) -> dict[str, str]:
    """When each secret of the app was last written, RFC 3339, "" where Fly does not say. Raises ApiError."""
    question = _question(fly, "secrets", app)
    found: dict[str, str] = shared(
        question, lambda: {name: each.updated_at for name, each in fly.list_secrets(app).items()}
    )
    return found


def try_token(token: str, app: str, *, operator: FlyClient) -> None:
    """Tries a token on the Machines API of its app.

    One machine of the app is read, whichever: Fly takes five such calls a second for each machine, but one list a second for the whole app,
    and many tokens may be for the same one. Where there is no machine, or the call shows nothing, machines are listed.

    Args:
        token: What is tried.
        app: The app that it is for.
        operator: Shows which machines there are.

    Raises:
        ApiError: Fly refuses the token (`refused`), or gave an answer that proves neither.
    """
    tried = FlyClient(token=token)
    for machine_id in _any_machine(operator, app):
        try:
            tried.get_machine(app, machine_id)
        except ApiError as error:
            if error.refused or error.transient:
                raise
        else:
            return
    tried.list_machines(app)


def _any_machine(operator: FlyClient, app: str) -> list[str]:
    """The id of one machine; none where there is none, or where Fly does not tell."""
    try:
        machines = machines_of(operator, app, older=LISTED_FOR)
    except ApiError:
        return []
    return [secrets.choice(machines).machine_id] if machines else []


def _question(fly: FlyClient, what: str, app: str) -> str:
    return f"{machines_api()} {fly.token} {what} of {app}"
