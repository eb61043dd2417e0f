"""The state of the rollout and the only source of Experiment weights: roles, ladder, routing, allocation."""
