"""Measurements behind the README's numbers: ratios of two things measured in one run (``python -m benchmarks``)."""
