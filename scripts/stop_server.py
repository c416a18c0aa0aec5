"""Stop the inference servers that the main job left running."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from environment import STATE

from mxpipe.serve import process


def main() -> int:
    """Stop every server whose state file lies in the state directory."""
    stopped = [state.stem for state in sorted((STATE / "server").glob("*.json")) if process.stop(state)]
    print(f"Stopped: {', '.join(stopped)}" if stopped else "No server was running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
