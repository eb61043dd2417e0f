"""Serving: manifests, targets that run them, the MLServer runtime, the V2 client and signals."""
