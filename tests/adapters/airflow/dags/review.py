"""The example DAG with Airflow's own approval, in the folder that the tests' airflow knows."""

from model_review import dag  # noqa: F401
