"""Hooks: where the parts of a pipeline are."""
