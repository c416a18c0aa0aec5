"""The split by hash: the same row goes to the same version, whatever its form and its company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxpipe.errors import RequestError
from mxpipe.serve.split import Lease, Split, bucket_of_id, buckets, read_split, write_split

values = st.one_of(st.none(), st.integers(-(2**40), 2**40))
rows = st.lists(st.tuples(values, st.one_of(st.none(), st.text(max_size=5))), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_a_row_has_one_bucket_in_any_company_and_form(given_rows: list[tuple[Any, Any]]) -> None:
    hours, carriers = [row[0] for row in given_rows], [row[1] for row in given_rows]
    together = buckets({"hour": hours, "carrier": carriers}, len(given_rows))
    as_floats = np.array([np.nan if hour is None else float(hour) for hour in hours])
    assert buckets({"carrier": carriers, "hour": as_floats}, len(hours)).tolist() == together.tolist()
    for row, (hour, carrier) in enumerate(given_rows):
        assert buckets({"hour": [hour], "carrier": [carrier]}, 1)[0] == together[row]
    assert ((together >= 0) & (together < 1)).all()


def test_buckets_are_spread_evenly_and_never_change() -> None:
    random = np.random.default_rng(0)
    found = buckets({"x": random.integers(0, 10**9, 20_000), "y": random.normal(size=20_000)}, 20_000)
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert np.abs(counts - 2000).max() < 200
    # Columns are not interchangeable, and neither are missing values and zeros.
    pairs = [
        ({"a": [1], "b": [2]}, {"a": [2], "b": [1]}),
        ({"a": [0]}, {"a": [None]}),
        ({"a": ["0"]}, {"a": [0]}),
    ]
    for first, second in pairs:
        assert buckets(first, 1)[0] != buckets(second, 1)[0]
    ids = [bucket_of_id(f"request-{number}") for number in range(5000)]
    assert abs(float(np.mean(np.array(ids) < 0.1)) - 0.1) < 0.02
    # A restart, another machine, another version of Python: pinned.
    assert round(float(buckets({"hour": [7], "carrier": ["UA"]}, 1)[0]), 9) == 0.75904722
    assert round(bucket_of_id("request-1"), 9) == 0.392456243


def test_what_is_no_split_is_refused() -> None:
    for bad in ({"canary": 4}, {"share": 1.5}, {"share": True}, {"weight": 1}, [], {"shadow": ""}):
        with pytest.raises(RequestError, match=r"\[split\]"):
            Split.from_json(bad)


def test_a_split_of_another_server_is_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "server.split.json"
    assert read_split(path, "flights@champion") == (Split(), None)
    split = Split("4", 0.25, "5")
    write_split(path, "flights@champion", split)
    assert read_split(path, "flights@champion") == (split, None)
    assert read_split(path, "digits@champion") == (Split(), None)
    lease = Lease(Split("3", 0.5), 60.0)
    write_split(path, "flights@champion", split, lease)
    assert read_split(path, "flights@champion") == (split, lease)
    path.write_text("{")
    assert read_split(path, "flights@champion") == (Split(), None)
