"""Benchmarks: what a mail costs, and how the daemons compare with others that do the same work."""
