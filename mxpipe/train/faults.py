"""Named points at which a test can end the process, to prove what a kill leaves behind.

With `MXPIPE_FAULT_POINT=name:count` in the environment the process sends itself SIGKILL when it passes the
point of that name for the count-th time. Without the variable a point costs one dictionary look-up and does
nothing.

Points: `step` (after each optimizer step), `checkpoint.half_written`, `checkpoint.before_rename`,
`checkpoint.after_rename`, `model.before_rename`, `model.after_rename`.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_VARIABLE = "MXPIPE_FAULT_POINT"
_passed: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """End the process here if the environment asks for it.

    Example:
        >>> fault_point("step")  # nothing asked for: nothing happens
    """
    wanted = os.environ.get(_VARIABLE)
    if wanted is None:
        return
    wanted_name, _, count = wanted.rpartition(":")
    if wanted_name == name:
        _passed[name] += 1
        if _passed[name] == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
