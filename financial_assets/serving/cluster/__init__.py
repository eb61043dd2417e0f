"""What both targets of a cluster share: rules between manifests and stored objects, status, and deadlines."""
