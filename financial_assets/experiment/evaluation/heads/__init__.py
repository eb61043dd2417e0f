"""What the heads beside the direction are worth: value at risk over one and five sessions, and the ranking score."""
