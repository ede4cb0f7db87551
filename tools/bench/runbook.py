"""The runbook done by a script: plain HTTP calls in its order, one secret after another, each with a restart of its own.

`python -m tools.bench.runbook`, with the secrets on standard input; what an operator with a shell and a good memory would do. It waits no
longer than it has to: calls, rolling restarts and checks are those of the program itself (its clients and its verification modules), so that
what is compared is the order of the work and the engine, and not how well somebody polls.
"""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from nacl.public import PublicKey, SealedBox

from components import neighbours, operator_credentials, secret_map, stack_files
from components.fly.client import FlyClient
from components.fly.rollout import Rollout, RolloutPolicy
from components.issuers import ISSUERS, Context
from components.keyring import Credential
from components.operator_credentials import endpoint
from components.progress import Progress
from components.rotated import Rotated
from components.secret import Family, GitHubSecret, Secret
from components.settings import Settings
from components.tenants.rollout import Environments, deliver

# In the order of the runbook; TENANT_REDIS_URL, for which it has no procedure, at the end.
SECRETS: Mapping[str, Callable[[Settings], Secret]] = {
    "FLY_API_TOKEN": secret_map.fly_api_token,
    "NEON_API_KEY": secret_map.neon_api_key,
    "DATABASE_URL": secret_map.database_url,
    "RESEND_API_KEY": secret_map.resend_api_key,
    "RESEND_FROM_EMAIL": secret_map.resend_from_email,
    "STRIPE_API_KEY": secret_map.stripe_api_key,
    "STRIPE_WEBHOOK_SECRET": secret_map.stripe_webhook_secret,
    "TENANT_REDIS_URL": secret_map.tenant_redis_url,
}


def main() -> int:
    """Rotates what standard input lists: `{"stack": PATH, "secrets": {NAME: {"old": ID, "supplied": VALUE}}}`.

    Prints `{"seconds": {NAME: SECONDS}, "current": {NAME: ID}}`.
    """
    order = json.load(sys.stdin)
    settings = _settings(Path(order["stack"]))
    wanted = order["secrets"]
    seconds, current = {}, {}
    for name, secret in SECRETS.items():
        if name in wanted:
            began = time.monotonic()
            current[name] = _rotate(settings, secret(settings), **wanted[name])
            seconds[name] = time.monotonic() - began
    json.dump({"seconds": seconds, "current": current}, sys.stdout)
    return 0


def _rotate(settings: Settings, secret: Secret, *, old: str, supplied: str) -> str:
    """One procedure of the runbook; returns the id of the new credential."""
    kept = Credential(generation=0, credential_id=old, name=old, value="", created_at="2000-01-01T00:00:00+00:00")
    context = Context(config=lambda _key: None, given=supplied, keyring=(kept,))
    issuer = ISSUERS[secret.source.kind].build(secret.source.settings, context)
    minted = issuer.mint(f"runbook-{secret.name}-{int(time.time())}")
    if secret.probe is not None:
        _check(settings, secret, secret.probe.module, minted.credential_id, minted.created_at, value=minted.value)
    fly = FlyClient(token=operator_credentials.find(operator_credentials.FLY))
    policy = RolloutPolicy(max_unavailable=settings.max_unavailable, health_timeout=settings.health_timeout)
    for location in secret.fly:
        Rollout(fly, location.app, policy).deliver({secret.name: minted.value}, previous={}, finished_version=0)
    if secret.tenants is not None:
        environments = Environments(
            client=fly,
            app=secret.tenants.app,
            variables={secret.tenants.variable: minted.value},
            same_server=[secret.tenants.variable] if secret.tenants.same_server else [],
            overlaps=[secret.tenants.variable],
        )
        deliver(environments, policy)
    for repository in secret.repositories:
        _put(repository, secret.name, minted.value)
    module = secret.verification.module
    _check(settings, secret, module, minted.credential_id, minted.created_at, value=minted.value)
    if issuer.revokes:
        issuer.revoke(old)
    return minted.credential_id


def _check(settings: Settings, secret: Secret, module: str, credential_id: str, minted_at: str, *, value: str) -> None:
    """A check as the program runs it: a process, with the value on its standard input."""
    rotated = Rotated(
        secret=secret,
        family=Family(app=settings.app, stack="runbook", secret=secret.name, longest_name=255),
        generation=1,
        progress=Progress(),
    )
    told = rotated.probe if secret.probe is not None and secret.probe.module == module else rotated.verification
    about = {"subject": credential_id, "credential_id": credential_id, "minted_at": minted_at}
    subprocess.run(
        [sys.executable, "-m", f"components.verification.{module}"],
        input=value,
        env={**os.environ, "ROTATION_CHECK": json.dumps({**told, **about})},
        stdout=subprocess.DEVNULL,
        text=True,
        check=True,
    )


def _put(location: GitHubSecret, name: str, value: str) -> None:
    """`gh secret set`."""
    api = endpoint("GITHUB_BASE_URL", "https://api.github.com")
    token = operator_credentials.find(operator_credentials.GITHUB)
    path = f"{api}{location.secrets_path}"
    with httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=30) as http:
        key = http.get(f"{path}/public-key").raise_for_status().json()
        sealed = SealedBox(PublicKey(base64.b64decode(key["key"]))).encrypt(value.encode())
        body = {"encrypted_value": base64.b64encode(sealed).decode(), "key_id": key["key_id"]}
        http.put(f"{path}/{name}", json=body).raise_for_status()


def _settings(stack: Path) -> Settings:
    """The settings of a stack."""
    project = stack_files.project(stack.parent.parent)
    return neighbours.settings_of(project, stack_files.read_config(stack))


if __name__ == "__main__":
    sys.exit(main())
