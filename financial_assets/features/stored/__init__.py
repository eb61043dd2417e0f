"""Features on disk: their files, and how they are read."""
