"""Runs of workflows: from queued to completed, each in a process of its own.

What a run does is `sandbox.runner`'s business. Here it is decided when it starts, what it is told, and what becomes of
it:

- The secrets are read when the job *starts*: a rotation while the run is queued reaches it, a later one does not. Which
  of the two moments GitHub takes is not established; this is the one after which an old value lives longest.
- When the sandbox stops or dies, its runners die with it. A run that was in progress is completed as *cancelled*, at
  the stop or at the next start: its process and the secret it held are gone, and to start it again with another value
  would hide what the stop did. A run that was still queued had read nothing; it starts when the sandbox does.
"""

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from sandbox.github import secret_stores, settings, store
from sandbox.runner import Job
from sandbox.world import World

_SKIP_MARKERS: Final = ("[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]")
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
"""Environment of a runner. The rest stays behind: the sandbox's own environment may hold an operator's tokens."""

_PACKAGES: Final = Path(__file__).parents[2]


class Runs:
    """The runs that are under way in this process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def resume(self) -> None:
        """Deal with what an earlier sandbox left behind; see the module's docstring."""
        for repository in store.repositories(self._world.database):
            for run in store.runs(self._world.database, repository=repository):
                if run.status == "in_progress":
                    store.report_log(self._world, run=run, line="##[error]The runner has received a shutdown signal.")
                    store.complete_run(self._world, run=run, conclusion="cancelled")
                elif run.status == "queued":
                    self._start(run)

    def dispatch(
        self, *, workflow: store.Workflow, event: str, branch: str, commit: store.Commit, actor: store.Account
    ) -> store.Run:
        """Queue a run of a workflow."""
        run = store.add_run(
            self._world,
            workflow=workflow,
            event=event,
            branch=branch,
            commit=commit,
            actor=actor,
            listing_delay=self._world.number(settings.LISTING_DELAY),
        )
        self._start(run)
        return run

    def push(
        self, *, repository: store.Repository, branch: str, commit: store.Commit, actor: store.Account
    ) -> list[store.Run]:
        """Queue what a push starts: every workflow that listens to pushes, on the default branch."""
        if branch != repository.default_branch or any(marker in commit.message for marker in _SKIP_MARKERS):
            return []
        return [
            self.dispatch(workflow=workflow, event="push", branch=branch, commit=commit, actor=actor)
            for workflow in store.workflows(self._world.database, repository=repository)
            if "push" in workflow.events
        ]

    def rerun(self, run: store.Run) -> None:
        """Queue another attempt of a completed run. It reads the secrets anew."""
        store.add_attempt(self._world, run=run)
        repository = store.known_repository(self._world.database, run.repository_id)
        again = store.run(self._world.database, repository=repository, id_=run.id)
        if again is not None:
            self._start(again)

    def cancel(self, run: store.Run) -> None:
        """Stop a run that is not completed."""
        task = self._tasks.get(run.id)
        if task is not None:
            task.cancel()
        store.complete_run(self._world, run=run, conclusion="cancelled")

    def _start(self, run: store.Run) -> None:
        task = self._world.spawn(self._execute(run))
        self._tasks[run.id] = task
        task.add_done_callback(lambda done: self._forget(run.id, done))

    def _forget(self, run_id: int, task: asyncio.Task[None]) -> None:
        # A new attempt may have taken the place by now.
        if self._tasks.get(run_id) is task:
            del self._tasks[run_id]

    async def _execute(self, run: store.Run) -> None:
        await asyncio.sleep(self._world.number(settings.QUEUE_SECONDS))
        if not store.start_job(self._world, run=run):
            return
        conclusion = "cancelled"
        try:
            conclusion = "success" if await self._run_job(run) else "failure"
        finally:
            store.complete_run(self._world, run=run, conclusion=conclusion)

    def _job(self, run: store.Run) -> Job:
        repository = store.known_repository(self._world.database, run.repository_id)
        workflow = store.known_workflow(self._world.database, run.workflow_id)
        if workflow.environment is not None:
            # A run makes an environment that does not exist (GitHub documentation, "Managing environments for deployment").
            store.add_environment(self._world, repository=repository, name=workflow.environment)
        return Job(
            consumer=f"{repository.full_name} run {run.id}",
            registry=self._world.url("registry"),
            image=workflow.image,
            tags=["latest", f"sha-{run.sha[:7]}"],
            revision=run.sha,
            build_seconds=self._world.number(settings.BUILD_SECONDS),
            broken=self._world.text(settings.WORKFLOW_BROKEN) in {workflow.file, workflow.path},
            secrets=secret_stores.for_job(self._world, repository=repository, environment=workflow.environment),
        )

    async def _run_job(self, run: store.Run) -> bool:
        """Run the job in a child process and note what it reports; whatever happens, the child is gone afterwards.

        Returns:
            Whether the job succeeded.
        """
        job = self._job(run)
        runner = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sandbox.runner",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_PACKAGES,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            # Ctrl-C in the operator's terminal is for the sandbox, which then ends its runners itself.
            start_new_session=True,
        )
        try:
            if runner.stdin is None or runner.stdout is None:
                raise AssertionError(runner)
            with contextlib.suppress(ConnectionError):
                # The pipe stays open: its end tells the runner that the sandbox is gone.
                runner.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
                await runner.stdin.drain()
            async for line in runner.stdout:
                self._note(run, json.loads(line))
            return await runner.wait() == 0
        finally:
            if runner.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    runner.kill()
                await asyncio.shield(runner.wait())

    def _note(self, run: store.Run, message: dict[str, str]) -> None:
        if "log" in message:
            store.report_log(self._world, run=run, line=message["log"])
        else:
            store.report_step(
                self._world,
                run=run,
                name=message["step"],
                status=message["status"],
                conclusion=message["conclusion"],
            )
