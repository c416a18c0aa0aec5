"""What a compiled block or training step does: its kernels, bytes, operations, memory and time.

`HybridBlock.inspect` and `TrainStep.inspect` give a `PlanView` without running anything; within `profile()`
the plans that run are timed step by step. `mxpipe inspect` prints and draws them for model folders.
"""

from __future__ import annotations

from .plan import ArenaBlock, Kind, Operand, PlanView, Profile, Step, profile, view
from .text import summary

__all__ = ["ArenaBlock", "Kind", "Operand", "PlanView", "Profile", "Step", "profile", "summary", "view"]
