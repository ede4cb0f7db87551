"""The machine that a workflow's job runs on: a real process that works with the secrets it was given and nothing else.

``python -m sandbox.runner`` does what ``publish-platform-image.yml`` does: it logs in to the registry, builds, logs in
again and pushes one image under two tags. It is a process of its own, and not a coroutine of the sandbox, because what
is rehearsed is what happens to a consumer that has *copied* a secret: whatever the repository's secret becomes later,
this process knows the value it started with and breaks if that value is revoked under it.

The conversation, one JSON object a line:

- standard input: the job (`Job`), then nothing. The pipe stays open for as long as the sandbox lives; when it closes,
  the sandbox is gone and so is the runner. (A pipe works on every system and survives a ``kill -9`` of the sandbox;
  ``PR_SET_PDEATHSIG`` exists on Linux alone and is bound to a thread, not to a process.)
- standard output: ``{"step": NAME, "status": "in_progress"|"completed", "conclusion": …}`` and ``{"log": LINE}``.
- exit status: 0 if every step succeeded, 1 if one failed, 2 if the job itself could not be read.

Secrets come by standard input: neither argv nor the environment of a runner holds one, so no process list shows it. In
log lines they are replaced by ``***``, as GitHub does (GitHub documentation, "Using secrets in GitHub Actions").

The registry's protocol is the OCI Distribution Specification (``/v2/``); the user name ``x`` and the token as password
are what Fly documents for ``registry.fly.io`` (``flyctl auth docker``).

Only the standard library is imported, so that a runner starts in well under 0.2 s.
"""

import base64
import hashlib
import http.client
import json
import os
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

_TIMEOUT = 30.0
"""Seconds for one request to the registry. Longer than any fault a rehearsal injects, shorter than a hung test."""

_PUSH_ATTEMPTS = 3
"""`docker push` retries what looks like a fault of the network or of the registry; `docker login` does not."""

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIGURATION = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


class StepFailedError(Exception):
    """A step of the job failed; its message is the log line that says so."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a runner is told.

    Attributes:
        consumer: Who asks, for the sandbox's list of breakages: ``OWNER/REPO run ID``.
        registry: Base URL of the registry, without ``/v2/``.
        image: Name of the image in the registry.
        tags: Tags to push it under.
        revision: Full id of the commit that is built.
        build_seconds: How long the build takes. A long one is how "a run that started with the old value" is rehearsed.
        broken: Whether the build fails, as it does after a bad commit.
        secrets: Name and plaintext value of every secret that the job may read, as they were when the job started.
    """

    consumer: str
    registry: str
    image: str
    tags: list[str]
    revision: str
    build_seconds: float
    broken: bool
    secrets: dict[str, str]


class _Registry:
    """The few calls of the OCI Distribution Specification that `docker login` and `docker push` make."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._base = urllib.parse.urlsplit(job.registry)
        credentials = f"x:{job.secrets.get('FLY_API_TOKEN', '')}".encode()
        self._authorization = "Basic " + base64.b64encode(credentials).decode()

    def _request(
        self, method: str, target: str, body: bytes = b"", content_type: str = "application/octet-stream"
    ) -> tuple[int, str]:
        """Send one request.

        Returns:
            The status and the ``Location`` header, empty if there was none.

        Raises:
            OSError: The registry could not be reached or did not answer in time.
            http.client.HTTPException: The registry closed the connection or did not speak HTTP.
        """
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(self._base.geturl(), target))
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = connect(parts.hostname or "", parts.port, timeout=_TIMEOUT)
        try:
            connection.request(
                method,
                parts.path + (f"?{parts.query}" if parts.query else ""),
                body=body,
                headers={
                    "Authorization": self._authorization,
                    "Content-Type": content_type,
                    "User-Agent": "docker/28.3.0",
                    "sandbox-consumer": self._job.consumer,
                },
            )
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("Location", "")
        finally:
            connection.close()

    def login(self) -> None:
        """Do what `docker login` does.

        Raises:
            StepFailedError: The registry refused the token or could not be asked.
        """
        try:
            status, _ = self._request("GET", "/v2/")
        except (OSError, http.client.HTTPException) as error:
            raise StepFailedError(
                f'Error response from daemon: Get "{self._job.registry}/v2/": {type(error).__name__}'
            ) from None
        if status != http.client.OK:
            reason = (
                "unauthorized: authentication required"
                if status == http.client.UNAUTHORIZED
                else f"received unexpected HTTP status: {status}"
            )
            raise StepFailedError(f'Error response from daemon: Get "{self._job.registry}/v2/": {reason}')

    def push(self, log: Callable[[str], None]) -> None:
        """Push one image under every tag of the job.

        Raises:
            StepFailedError: The registry refused the token, or failed more often than `docker push` has patience for.
        """
        layer = f"built from {self._job.revision}\n".encode()
        configuration = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {"org.opencontainers.image.revision": self._job.revision}},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIGURATION, "digest": _digest(configuration), "size": len(configuration)},
                "layers": [{"mediaType": _LAYER, "digest": _digest(layer), "size": len(layer)}],
            }
        ).encode()
        for blob in (configuration, layer):
            self._retry(partial(self._push_blob, blob))
        for tag in self._job.tags:
            self._retry(partial(self._push_manifest, tag, manifest))
            log(f"{tag}: digest: {_digest(manifest)} size: {len(manifest)}")

    def _push_blob(self, blob: bytes) -> int:
        status, location = self._request("POST", f"/v2/{self._job.image}/blobs/uploads/")
        if status != http.client.ACCEPTED:
            return status
        separator = "&" if "?" in location else "?"
        return self._request("PUT", f"{location}{separator}digest={urllib.parse.quote(_digest(blob))}", blob)[0]

    def _push_manifest(self, tag: str, manifest: bytes) -> int:
        return self._request("PUT", f"/v2/{self._job.image}/manifests/{tag}", manifest, _MANIFEST)[0]

    def _retry(self, attempt: Callable[[], int]) -> None:
        reason = ""
        for number in range(_PUSH_ATTEMPTS):
            if number:
                time.sleep(0.2 * number)
            try:
                status = attempt()
            except (OSError, http.client.HTTPException) as error:
                reason = type(error).__name__
                continue
            if status == http.client.CREATED:
                return
            if status == http.client.UNAUTHORIZED:
                raise StepFailedError("unauthorized: authentication required")
            if status == http.client.FORBIDDEN:
                raise StepFailedError("denied: requested access to the resource is denied")
            reason = f"received unexpected HTTP status: {status}"
            if status < http.client.INTERNAL_SERVER_ERROR:
                break
        raise StepFailedError(f"error: failed to push to {self._job.image}: {reason}")


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class _Report:
    """Standard output: steps and log lines, with every secret masked."""

    def __init__(self, secrets: dict[str, str]) -> None:
        # The longest first: of two secrets of which one contains the other, both must vanish entirely.
        self._masked = sorted({value for value in secrets.values() if value}, key=len, reverse=True)

    def log(self, line: str) -> None:
        for value in self._masked:
            line = line.replace(value, "***")
        self._write({"log": line})

    def step(self, name: str, status: str, conclusion: str | None = None) -> None:
        self._write({"step": name, "status": status, "conclusion": conclusion})

    @staticmethod
    def _write(message: dict[str, str | None]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def _build(job: Job, report: _Report) -> None:
    report.log(f"#1 building {job.image} at {job.revision[:7]}")
    time.sleep(job.build_seconds)
    if job.broken:
        raise StepFailedError("ERROR: failed to build: failed to solve: process did not complete successfully")


def run(job: Job) -> bool:
    """Run the job's steps in order; after one has failed the others are skipped.

    Returns:
        Whether all of them succeeded.
    """
    report = _Report(job.secrets)
    registry = _Registry(job)

    def login() -> None:
        registry.login()
        report.log("Login Succeeded")

    def push() -> None:
        # A long build outlives what `docker login` cached: the token has to be good at the end, too.
        registry.login()
        registry.push(report.log)

    steps: list[tuple[str, Callable[[], None]]] = [
        ("Log in to registry.fly.io", login),
        ("Build", lambda: _build(job, report)),
        ("Push", push),
    ]
    succeeded = True
    for name, action in steps:
        if not succeeded:
            report.step(name, "completed", "skipped")
            continue
        report.step(name, "in_progress")
        try:
            action()
        except StepFailedError as failure:
            succeeded = False
            report.log(str(failure))
            report.log("##[error]Process completed with exit code 1.")
            report.step(name, "completed", "failure")
        else:
            report.step(name, "completed", "success")
    return succeeded


def _leave_with_the_sandbox() -> NoReturn:
    """Wait for the end of standard input, which is the end of the sandbox, and take the whole process with it."""
    # Not `sys.stdin.read`: the interpreter's exit would wait for the lock that this thread holds while it reads.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


def main() -> int:
    """Read the job, run it, and say by the exit status how it went."""
    try:
        job = Job(**json.loads(sys.stdin.buffer.readline()))
    except (ValueError, TypeError):
        # Not the exception: its text may hold a part of the line, and so of a secret.
        sys.stderr.write("The first line of standard input is not a job. Nothing was done.\n")
        return 2
    threading.Thread(target=_leave_with_the_sandbox, daemon=True).start()
    return 0 if run(job) else 1


if __name__ == "__main__":
    sys.exit(main())
