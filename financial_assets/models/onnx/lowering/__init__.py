"""The features of a served graph as few operations on many numbers each."""
