"""Measurements behind the README's numbers, ratios within one run: ``python -m pytest benchmarks``."""
