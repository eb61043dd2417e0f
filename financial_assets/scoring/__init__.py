"""How good is an answer? Pure functions over arrays."""
