"""What a run leaves behind: results, failures, trials, where they come from, and what their metrics are called."""
