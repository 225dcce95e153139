"""Corruptions of CIFAR-10-C, computed."""
