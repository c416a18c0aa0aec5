"""A month's record: what every stage returned, kept as one JSON file beside those of the other months."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STAGES = (
    "resolve_champion",
    "ingest",
    "validate",
    "split",
    "train",
    "baselines",
    "evaluate",
    "gate",
    "infra_validate",
    "register",
    "promote",
    "predict",
    "deploy",
    "check_server",
)


def keep_record(root: Path, partition: str, task_instance: Any) -> list[dict[str, Any]]:
    """Write a month's record and return the records of all months, in their order.

    Args:
        root: The pipeline's root directory.
        partition: The month, e.g. ``2013-01``.
        task_instance: Gives the manifests of the stages; a stage that did not finish has none.
    """
    from mxpipe.model.storage import write_json

    stages = {stage: task_instance.xcom_pull(task_ids=stage) for stage in STAGES}
    folder = root / "reports" / "months"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{partition}.json", {"partition": partition, "stages": stages})
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
