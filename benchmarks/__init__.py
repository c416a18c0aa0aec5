"""Benchmarks: ours, PyTorch eager and the machine's limits from one run. `make bench` runs them."""
