"""Sensors: wait within a DAG run for a registry or a monitor."""
