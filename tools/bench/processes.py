"""What an update takes of the machine: memory at most, and time of the processors, of each kind of process that works for it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

SAMPLES = 0.1  # seconds between two looks
ENGINE, PROVIDER, PROGRAM, CHECKS, OTHERS = "engine", "provider", "program", "checks", "others"


def kind(name: str, command: Sequence[str]) -> str:
    """Whose process it is.

    Args:
        name: Of the process.
        command: Its command line.

    Returns:
        `engine` is the command `pulumi`, `provider` the SDK's process of all dynamic resources, `program` that which runs `__main__.py`,
        `checks` are probes and verifications, `others` the remaining plugins.
    """
    if name == "pulumi":
        return ENGINE
    if name.startswith("python"):
        words = " ".join(command)
        if "pulumi.dynamic" in words:
            return PROVIDER
        if "components.verification." in words:
            return CHECKS
        if "pulumi-language-python-exec" in words:
            return PROGRAM
    return OTHERS


@dataclass
class Usage:
    """What was seen.

    Attributes:
        memory: Bytes at most of the largest process of each kind.
        together: Bytes at most of all processes at one time.
        time: Seconds of the processors that each kind took. Of processes that end between two looks, `checks` has what their parents were told.
        count: How many processes of each kind were seen.
    """

    memory: dict[str, int] = field(default_factory=dict)
    together: int = 0
    time: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)


class _Watcher:
    def __init__(self) -> None:
        self.usage = Usage()
        self._over = threading.Event()
        self._seen: dict[tuple[int, float], tuple[str, float]] = {}
        self._of_children: dict[tuple[int, float], float] = {}
        self._kinds: dict[tuple[int, float], str] = {}

    def watch(self) -> None:
        me = psutil.Process()
        while not self._over.wait(SAMPLES):
            together = 0
            for each in me.children(recursive=True):
                try:
                    together += self._look(each)
                except psutil.Error:
                    continue
            self.usage.together = max(self.usage.together, together)

    def _look(self, process: psutil.Process) -> int:
        key = (process.pid, process.create_time())
        with process.oneshot():
            # Looked up anew until it is more than a shell: a process that has just begun is still its parent's copy.
            found = self._kinds.get(key, OTHERS)
            if found == OTHERS:
                found = self._kinds[key] = kind(process.name(), process.cmdline())
            used, times = process.memory_info().rss, process.cpu_times()
        self.usage.memory[found] = max(self.usage.memory.get(found, 0), used)
        self._seen[key] = (found, times.user + times.system)
        if process.name() == "pulumi-resource-command":
            self._of_children[key] = times.children_user + times.children_system
        return used

    def stop(self) -> None:
        self._over.set()

    def finish(self) -> None:
        for found, seconds in self._seen.values():
            self.usage.count[found] = self.usage.count.get(found, 0) + 1
            if found != CHECKS:
                self.usage.time[found] = self.usage.time.get(found, 0.0) + seconds
        self.usage.time[CHECKS] = sum(self._of_children.values())


@contextmanager
def watched() -> Iterator[Usage]:
    """Looks at all processes below this one; what it has seen is complete once it is over."""
    watcher = _Watcher()
    thread = threading.Thread(target=watcher.watch)
    thread.start()
    try:
        yield watcher.usage
    finally:
        watcher.stop()
        thread.join()
        watcher.finish()


def megabytes(memory: Mapping[str, int], of: str) -> str:
    """The peak of a kind, for people."""
    return f"{memory.get(of, 0) / 1e6:.0f} MB"
