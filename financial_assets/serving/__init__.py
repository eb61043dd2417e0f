"""The answer, served: manifests, serving targets, the MLServer runtime and the V2 client."""
