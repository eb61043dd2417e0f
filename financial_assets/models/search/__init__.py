"""Hyper-parameter search: which settings of a variant lose least on the stop block, and a file to adopt them by."""
