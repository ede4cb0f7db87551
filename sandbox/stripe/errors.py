"""Stripe's errors: `{"error": {"type", "code"?, "message", "param"?}}` (Stripe API reference, "Errors")."""

from __future__ import annotations

from typing import Any

from sandbox.world import SandboxError


class StripeError(SandboxError):
    """An answer that is not a success.

    Args:
        status: HTTP status.
        message: What Stripe says. May hold a key's last four characters, never more of it.
        kind: The error's `type`; clients must not rely on it for 401 (providers.md 3b).
        code: The error's `code`, if it has one.
        param: The parameter that it is about.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param

    def document(self) -> dict[str, Any]:
        """Return the body of the answer."""
        error: dict[str, Any] = {"message": self.message, "type": self.kind}
        if self.code is not None:
            error |= {
                "code": self.code,
                "doc_url": f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}",
            }
        if self.param is not None:
            error["param"] = self.param
        return {"error": error}


def missing(kind: str, identifier: str, *, param: str = "id", status: int = 404, note: str = "") -> StripeError:
    """Return the answer for an object that does not exist in this account and mode."""
    return StripeError(status, f"No such {kind}: '{identifier}'{note}", code="resource_missing", param=param)


def invalid(message: str, param: str, code: str | None = None) -> StripeError:
    """Return the answer for a parameter that cannot be obeyed."""
    return StripeError(400, message, code=code, param=param)
