"""Hardware model of binary networks; imports torch and the standard library only."""
