"""Departures an hour: rows, features and network of the demand forecast's DAG."""
