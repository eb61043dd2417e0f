"""Processes of the local plane: started, watched, found again."""
