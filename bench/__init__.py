"""Benchmarks: two programs in one run, a ratio, and a file under results/."""
