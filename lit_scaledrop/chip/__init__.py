"""Networks on a chip: energy, dropout modules, layers."""
