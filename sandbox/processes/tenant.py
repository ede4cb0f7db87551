"""A tenant: answers its health check. Its environment is fixed when its machine is created (control-plane.md)."""

from __future__ import annotations

import os

from sandbox.processes.service import Handler, log, run


class Tenant(Handler):
    """`GET /health`."""

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer."""
        if self.path.partition("?")[0] == "/health":
            self.answer(200, {"status": "ok", "org_id": os.environ.get("MOLECULE_ORG_ID", "")})
        else:
            self.answer(404, {"error": "not found"})


if __name__ == "__main__":
    log("tenant: started")
    run(Tenant)
