"""Where arrays live. This build computes on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Device", "cpu", "num_gpus"]


@dataclass(frozen=True)
class Device:
    """A kind of device and its number.

    Example:
        >>> cpu()
        cpu(0)
    """

    device_type: str
    device_id: int = 0

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"


def cpu(device_id: int = 0) -> Device:
    """The CPU; the number is kept for programs that count devices."""
    return Device("cpu", device_id)


def num_gpus() -> int:
    """Number of usable GPUs: none, this build computes on the CPU."""
    return 0
