"""How good is an answer? Pure functions over arrays: no state, no input or output."""
