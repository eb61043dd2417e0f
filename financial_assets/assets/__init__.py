"""The asset graph, one module a group; each asset reads, calls the domain and returns metadata."""
