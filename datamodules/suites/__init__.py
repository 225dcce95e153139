"""Sets that trained networks are evaluated on: shifted, corrupted, out of distribution."""
