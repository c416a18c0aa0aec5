"""The flight model's real rows, encoded once for every engine."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

STATE = Path(__file__).resolve().parents[1] / "var"


def worker_arguments() -> list[str] | None:
    """`--data FILE --arguments JSON` for the newest training of `make run`; None where it has not run."""
    specs = sorted(STATE.rglob("spec.json"), key=lambda path: path.stat().st_mtime)
    if not specs:
        return None
    from mxpipe.data import FeatureSpec, Preprocessor, Snapshot

    spec = json.loads(specs[-1].read_text())["spec"]
    data = spec["data"]
    snapshot = Snapshot.open(data["train"])
    preprocessor = Preprocessor.fit(
        snapshot, FeatureSpec.from_json(data["features"]), **data.get("preprocessing", {})
    )
    table = snapshot.to_table()
    encoded = preprocessor.transform({name: table.column(name) for name in table.column_names})
    label = np.asarray(table.column(data["features"]["label"]), dtype=np.float32)
    path = Path(tempfile.gettempdir()) / "mxpipe-flights.npz"
    np.savez(path, **encoded, label=label, cardinalities=np.asarray(preprocessor.cardinalities))
    return ["--data", str(path), "--arguments", json.dumps(spec["model"]["arguments"])]
