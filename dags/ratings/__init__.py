"""Ratings of films: rows, features and network of the recommender's DAG."""
