"""Sweeps: points of a file, search for points, processes that train them."""
