"""What was promised before the data: the rollout policy, the registered plan, and the deviation it expects."""
