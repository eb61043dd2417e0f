"""Features of whole panels: one program of elementwise steps, run by torch or as compiled loops."""
