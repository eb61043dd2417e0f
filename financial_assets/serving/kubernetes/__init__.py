"""The serving target of a cluster: Seldon Core v2 objects through the Kubernetes API."""
