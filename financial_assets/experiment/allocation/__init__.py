"""Adaptive allocation: weights of an experiment that follow the evidence within limits. Off unless a policy asks."""
