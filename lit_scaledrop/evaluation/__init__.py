"""Evaluation of trained networks: test metrics, and the probes behind the tables and figures."""
