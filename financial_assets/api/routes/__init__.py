"""The paths, a module per concern."""
