"""Records of runs: results, failures, trials, provenance and names of metrics."""
