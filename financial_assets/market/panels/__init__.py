"""How bars become a panel, and how a panel grows by its new sessions alone."""
