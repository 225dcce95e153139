"""Files of data sets: fetched, checked, read."""
