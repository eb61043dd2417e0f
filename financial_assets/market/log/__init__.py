"""What the files of the price store say: the history of its changes, and the prices that they amount to."""
