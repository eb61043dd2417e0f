"""The serving target of a cluster that follows a Git repository."""
