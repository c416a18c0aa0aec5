"""Two models of scikit-learn on the same rows and features, so that a good month is known from a good model.

What enters: the split's two snapshots. What leaves: their scores on the holdout, in a file beside the split,
and their metrics. Who calls it: the baselines stage, for the report. Both run with scikit-learn's own
defaults, on what the network sees: normalised numbers and the ids of one vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flights import features
from mxpipe.data import FeatureSpec, Preprocessor, Snapshot
from mxpipe.model.storage import write_json
from mxpipe.train import evaluation

Inputs = dict[str, npt.NDArray[Any]]

# The histograms of HistGradientBoostingClassifier have room for so many categories of a column.
MOST_CATEGORIES = 254
SEED = 0


def run_baselines(train_uri: str, holdout_uri: str) -> dict[str, Any]:
    """Train both baselines and score the holdout; a repeated call finds what is there.

    Args:
        train_uri: Snapshot of the training rows.
        holdout_uri: Snapshot of the holdout; the scores are written beside it.

    Returns:
        ``models``: metrics and seconds by name; ``seconds`` of both; ``predictions_uri``: a .npz with
        ``labels`` and the scores by name.
    """
    train, holdout = Snapshot.open(train_uri), Snapshot.open(holdout_uri)
    place = Path(holdout_uri).parent / f"baselines-{_digest(train.digest, holdout.digest)}"
    report = place.with_suffix(".json")
    if not report.exists():
        models, scores = _train(train, holdout)
        aside = place.with_suffix(f".{os.getpid()}")
        with open(aside, "wb") as file:
            np.savez_compressed(file, labels=_labels(holdout), **scores)
        aside.replace(place.with_suffix(".npz"))
        write_json(report, models)
    found = json.loads(report.read_text())
    return {
        "models": found,
        "seconds": round(sum(model["seconds"] for model in found.values()), 3),
        "rows": holdout.num_rows,
        "predictions_uri": str(place.with_suffix(".npz")),
    }


def _digest(*snapshots: str) -> str:
    """Names the result: the rows, and the code that decides what is made of them."""
    whole = hashlib.sha256("".join(snapshots).encode())
    for path in (Path(__file__), Path(features.__file__)):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


def _train(train: Snapshot, holdout: Snapshot) -> tuple[dict[str, Any], dict[str, Any]]:
    spec = FeatureSpec.from_json(features.features())
    preprocessor = Preprocessor.fit(train, spec, **features.PREPROCESSING)
    inputs = [preprocessor.transform(part.to_table(spec.columns)) for part in (train, holdout)]
    labels = _labels(train)
    models: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    for name, score in (("logistic_regression", _linear), ("hist_gradient_boosting", _boosted_trees)):
        start = time.monotonic()
        scores[name] = score(inputs[0], labels, inputs[1])
        models[name] = {
            **evaluation.evaluate(_labels(holdout), scores[name]).metrics,
            "seconds": round(time.monotonic() - start, 3),
        }
    return models, scores


def _linear(train: Inputs, labels: npt.NDArray[Any], holdout: Inputs) -> npt.NDArray[Any]:
    """Logistic regression of the numbers and the one-hot categories."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder

    encoder = OneHotEncoder(handle_unknown="ignore", dtype=np.float32).fit(train["categorical"])
    matrices = [
        sparse.hstack([part["numeric"], encoder.transform(part["categorical"])]).tocsr()
        for part in (train, holdout)
    ]
    model = LogisticRegression(max_iter=1000).fit(matrices[0], labels)
    return np.asarray(model.predict_proba(matrices[1])[:, 1])


def _boosted_trees(train: Inputs, labels: npt.NDArray[Any], holdout: Inputs) -> npt.NDArray[Any]:
    """Gradient-boosted trees that split on sets of categories."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    matrices = []
    for part in (train, holdout):
        ids = part["categorical"]  # the most frequent categories have the least ids
        matrices.append(np.hstack([part["numeric"], np.where(ids > MOST_CATEGORIES, 0, ids)]))
    numbers, columns = train["numeric"].shape[1], matrices[0].shape[1]
    model = HistGradientBoostingClassifier(
        categorical_features=np.arange(columns) >= numbers, random_state=SEED
    ).fit(matrices[0], labels)
    return np.asarray(model.predict_proba(matrices[1])[:, 1])


def _labels(snapshot: Snapshot) -> npt.NDArray[Any]:
    return np.asarray(snapshot.to_table([features.LABEL]).column(features.LABEL), dtype=np.int64)
