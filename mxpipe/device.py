"""Where arrays live. This build computes on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Device", "cpu", "current_device", "num_gpus"]


@dataclass(frozen=True)
class Device:
    """A kind of device and its number; in a `with` statement, where arrays are made.

    Example:
        >>> cpu()
        cpu(0)
    """

    device_type: str
    device_id: int = 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"


def cpu(device_id: int = 0) -> Device:
    """The CPU; the number is kept for programs that count devices."""
    return Device("cpu", device_id)


def current_device() -> Device:
    """Where new arrays are made: the CPU."""
    return cpu()


def num_gpus() -> int:
    """Number of usable GPUs: none, this build computes on the CPU."""
    return 0
