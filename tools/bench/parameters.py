"""What the sandboxes of the benchmarks are like: the same for all of them, and printed beside every figure."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What the sandbox is like.

    Attributes:
        machines: Of every control plane.
        tenants: Organizations, each with one machine.
        boot_time: Seconds that a machine needs to boot, on top of its process's own.
        check_interval: Seconds between two health checks of a machine.
        api_latency: Seconds that every provider takes to answer.
        workflow: Seconds that a workflow run takes.
    """

    machines: int = 4
    tenants: int = 6
    boot_time: float = 5.0
    check_interval: float = 5.0
    api_latency: float = 0.1
    workflow: float = 20.0

    def __str__(self) -> str:
        return self.about(f"{self.tenants} of tenants")

    def about(self, tenants: str = "those of the tenants") -> str:
        """The same in words.

        Args:
            tenants: How many machines of tenants there are.
        """
        return (
            f"{self.machines} machines of a control plane and {tenants}, which take {self.boot_time:g} s to boot and are "
            f"checked every {self.check_interval:g} s; providers answer after {self.api_latency:g} s; a workflow run takes "
            f"{self.workflow:g} s"
        )

    @property
    def options(self) -> list[str]:
        """For `python -m sandbox start`. How long workflow runs take is a setting of its own (`set github.build_seconds=…`)."""
        return [
            *("--machines", str(self.machines), "--tenants", str(self.tenants)),
            *("--boot-time", str(self.boot_time), "--check-interval", str(self.check_interval)),
            *("--api-latency", str(self.api_latency)),
        ]

    @property
    def settings(self) -> list[str]:
        """The times, for `python -m sandbox set`."""
        return [
            f"boot_time={self.boot_time}",
            f"check_interval={self.check_interval}",
            f"api_latency={self.api_latency}",
        ]


AT_ONCE = ("boot_time=0", "api_latency=0")
"""Settings under which nothing is waited for: while what is measured is prepared."""
