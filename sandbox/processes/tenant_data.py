"""An organization's data, which its tenant keeps: the control plane hands it on to that machine, sealed.

Both have the key, and neither can read what the other sealed with another one: then the answer is 500, and whoever could
not open it reports a breakage.
"""

from __future__ import annotations

from typing import Any

from sandbox.processes import encryption
from sandbox.processes.service import call, environ, log, report_breakage

_GOOD = 200


def exchange(
    method: str, organization: dict[str, Any], name: str, key: bytes, value: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Read or write a value at the organization's machine, and return what the control plane answers.

    409 without a machine, 502 without an answer, 500 if the answer cannot be opened with `key`; otherwise the tenant's.
    `name` is as it stood in the path; `value` is what to write.
    """
    machine = organization["machine"]
    if machine is None:
        return 409, {"error": "the organization has no machine"}
    try:
        status, answer = call(
            environ()["TENANT_URL"],
            method,
            f"/data/{name}?sealed=1",
            document=None if value is None else {"sealed": encryption.seal(key, value)},
            headers={"fly-force-instance-id": machine},
        )
    except OSError as error:
        return 502, {"error": f"the tenant does not answer: {type(error).__name__}"}
    if status != _GOOD or not isinstance(answer, dict):
        return status, answer or {"error": f"the tenant answered {status}"}
    try:
        return status, {"key": answer.get("key"), "value": encryption.unseal(key, answer.get("sealed"))}
    except encryption.UndecryptableError as error:
        log(f"data of {organization['slug']}: {error}")
        report_breakage(f"a value that the tenant of {organization['slug']} sealed cannot be opened")
        return 500, {"error": str(error)}
