"""What a network must beat: fitted on the same blocks, and their predictions kept day by day."""
