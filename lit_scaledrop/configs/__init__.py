"""YAML defaults of the command line and the three profiles."""
