"""Rate limits of providers, kept together by all threads and processes of one user on one machine.

One `pulumi up` calls the same app of Fly, or the same team of Resend, from the program, from several threads of the provider's process and
from the processes of the checks. What each of them may do alone, all together may not. So each takes its turn before it calls.

The algorithm is GCRA, a token bucket that is one number for each kind of call: the time at which the next one is due. The numbers of one
API are in one small file (`user_files.py`). Whoever comes notes the turn that it takes and sleeps after it has let go of the file. Numbers
that are past are dropped, so that the file stays as small as the last seconds.

- The clock is the monotonic one: it is the same for all processes of a machine, and setting the time does not move it. It begins anew
  with the machine, so a number that no turn could have left is not believed.
- Nothing secret is in the file, and no name: the API's address is hashed into the file's name, what is called into the number's. So
  sandboxes side by side do not wait for each other.
- It never fails a call. Where there can be no such file, each process keeps to the limits alone; after `LONGEST_WAIT` a call is made in any
  case; and a 429 that comes all the same is handled as ever (`http.py`).

What the control plane calls for a verification is counted where it is asked for (`verification/consumers.py`). Others on other machines,
flyctl, the control plane's own business: their calls count at the provider, too, and are not seen here.

Why no library: `limits` shares its numbers through a server (Redis, Memcached, MongoDB), `pyrate-limiter` 4.5 through SQLite with another
package for the lock, and keeps a row for every call. Both take 100 ms and more to import (measured), in each of the processes.

Whose limits are kept, and whose are not:

- Fly's Machines API and Resend: by their clients. A rotation of eight secrets that knows no limits asks for the secrets of one app eight
  times in one second, and Resend six times.
- Fly's GraphQL and releases: no limit is published.
- GitHub: its writes are pulumi-github's, which has `write_delay_ms` for that. Reads: 900 a minute; that rotation makes 43 calls.
- Neon (700 a minute, 40 at once) and Stripe (100 a second, 25 in test mode): it makes 33 and 17, at most 8 and 5 in a second.
- Upstash publishes no numbers.
"""

import json
import math
import threading
import time
from dataclasses import dataclass
from typing import Final

from components.user_files import held, name_of, rewrite

LONGEST_WAIT: Final = 30.0  # seconds for one turn
LONGEST_LOCK: Final = (
    2.0  # seconds; who holds it takes a fraction of a millisecond, unless it was stopped in the middle
)
LARGEST_FILE: Final = 1024 * 1024

_own: dict[str, float] = {}
_own_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a provider allows.

    Attributes:
        rate: Calls a second in the long run.
        burst: Calls in any one second.
    """

    rate: float
    burst: float

    @property
    def ahead(self) -> float:
        """Seconds by which a call may come before it is due.

        So many at once, after a pause, that with those which `rate` allows in the second after them they are `burst`. Where a provider
        means a bucket of `burst`, this leaves a second: calls may arrive closer to each other than they were made.
        """
        return max(0.0, self.burst - self.rate - 1) / self.rate


def reserve(due: float, *, now: float, limit: Limit) -> tuple[float, float]:
    """The next turn (GCRA).

    Args:
        due: When it is due, as the turn before left it.
        now: On the same clock.
        limit: What is allowed.

    Returns:
        Seconds to wait, and when the turn after this one is due.
    """
    step = 1 / limit.rate
    latest = now + LONGEST_WAIT + limit.ahead + step
    if not now < due <= latest:  # past, or of another boot's clock, or no time at all
        due = now
    wait = min(max(0.0, due - limit.ahead - now), LONGEST_WAIT)
    return wait, min(due + step, latest)


def take_turn(api: str, call: str, limit: Limit) -> None:
    """Waits until a call may be made.

    Args:
        api: The address of the API.
        call: What the limit counts together: the action, and what it is done to.
        limit: What the provider allows.
    """
    key = name_of(f"{api} {call}")
    try:
        wait = _reserve_in_file(name_of(api), key, limit)
    except OSError:
        with _own_lock:
            wait = _reserve_in(_own, key, limit)
    if wait:
        time.sleep(wait)


def _reserve_in_file(name: str, key: str, limit: Limit) -> float:
    """Seconds to wait. Raises OSError."""
    with held(name, patience=LONGEST_LOCK, every=0.002) as file:
        dues = _dues(file.read(LARGEST_FILE))
        wait = _reserve_in(dues, key, limit)
        rewrite(file, json.dumps(dues).encode())
    return wait


def _dues(content: bytes) -> dict[str, float]:
    """What a file holds; nothing where it is not what was written."""
    try:
        found = json.loads(content)
        return {str(key): float(due) for key, due in found.items() if math.isfinite(due)}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


def _reserve_in(dues: dict[str, float], key: str, limit: Limit) -> float:
    """Notes the turn. Returns seconds to wait."""
    now = time.monotonic()
    wait, due = reserve(dues.get(key, now), now=now, limit=limit)
    dues[key] = due
    for each in [each for each, other in dues.items() if not now < other <= now + 2 * LONGEST_WAIT]:
        del dues[each]
    return wait
