"""The last of these tests: the documentation's table is what has just been measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from disturbance import table

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_documentation_has_what_was_measured(matrix: Any) -> None:
    if not matrix:
        pytest.skip("no fault was tested before in this session")
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    head, _, *measured = table(matrix)
    assert rows[0] == head
    for row in measured:
        assert row in rows, f"docs/faults.md must hold what was measured: {row}"
