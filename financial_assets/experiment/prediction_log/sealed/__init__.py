"""The chain of sealed records: what was logged, registered and decided, each tied to what was there before."""
