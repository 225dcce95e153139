"""Runs: identity, folder and record, members of an ensemble, measurements of what was trained."""
