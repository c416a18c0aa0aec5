"""What the recommender knows of a rating before it is given, and how it is trained: plain data.

Who rates has mostly just arrived, so that who they are says little at first: what they gave and what the film
got so far stands beside their embeddings.
"""

from __future__ import annotations

from typing import Any

LABEL = "rating"
BASELINE = "film_mean"  # the forecast that costs nothing: what others gave the film before
GENRES = [
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
GENRE_COLUMNS = [f"genre_{name.lower().replace('-', '_')}" for name in GENRES]
NUMERIC = [
    BASELINE,
    "film_ratings_log",
    "user_mean",
    "user_ratings_log",
    "user_spread",
    "genre_mean",
    "film_age",
    *GENRE_COLUMNS,
]
CATEGORICAL = ["user", "film"]

_TEXT = {"type": "string", "max_null_fraction": 0.0}
_SHARE = {"minimum": 0.0, "maximum": 1.0, "max_null_fraction": 0.0}
_MEAN = {"type": "float64", "minimum": 0.5, "maximum": 5.0, "max_null_fraction": 0.0}

EXPECTATIONS: dict[str, Any] = {
    "minimum_rows": 5000,
    "columns": {
        **dict.fromkeys((LABEL, BASELINE, "user_mean", "genre_mean"), _MEAN),
        **dict.fromkeys(GENRE_COLUMNS, _SHARE),
        **dict.fromkeys(CATEGORICAL, _TEXT),
        "film_age": {"minimum": -2.0, "maximum": 130.0, "max_null_fraction": 0.02},
    },
    # Each year has users of its own; only what does not name them is compared.
    "drift": {"columns": [*NUMERIC, LABEL], "threshold": 0.25, "severity": "warning"},
}

POLICY: dict[str, Any] = {"metric": "rmse", "at_least": {"skill": 0.0}, "when_undecided": "PROMOTE"}


def training(train_uri: str) -> dict[str, Any]:
    """How a candidate is trained: a TrainSpec as JSON.

    Args:
        train_uri: The training snapshot; a template will do.
    """
    return {
        "model": {
            "builder": "wide_and_deep",
            "arguments": {
                "embedding_dims": 16,
                "hidden_units": [64, 32],
                "dropout": 0.2,
                "embedding_dropout": 0.3,
                "output_bias": 3.5,
            },
        },
        "data": {
            "train": train_uri,
            "features": {"numeric": NUMERIC, "categorical": CATEGORICAL, "label": LABEL},
            "batch_size": 512,
            # Rarer users and films are one with the unknown ones: their means say more than an embedding.
            "preprocessing": {"min_count": 5},
        },
        "loss": "huber",
        "optimizer": {"name": "adamw", "arguments": {"learning_rate": 0.002, "wd": 0.5}},
        "schedule": {"name": "cosine", "arguments": {"base_lr": 0.002, "warmup_steps": 30}},
        "steps": 600,
        "seed": 19990101,
        "checkpoint": {"every_steps": 100},
        "threads": 1,  # a step is smaller than what a second thread costs
    }
