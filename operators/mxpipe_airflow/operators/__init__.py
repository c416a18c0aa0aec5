"""Operators, one file a group of stages.

What enters: the manifests of earlier stages. What leaves: one manifest under 8 KB. Who calls it: Airflow's
workers.
"""
