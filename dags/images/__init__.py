"""Handwritten digits: rows, features and network of the image classifier's DAG."""
