"""What the price store holds, without the prices."""
