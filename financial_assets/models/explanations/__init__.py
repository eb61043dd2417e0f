"""What moves a model's answers, and when it is wrong: gradients, permutations, ablations, and errors by group."""
