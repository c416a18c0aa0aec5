"""Triggers. Their import paths are stored in Airflow's database: they never move."""
