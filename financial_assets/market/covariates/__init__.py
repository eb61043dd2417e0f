"""Covariates: what is known beside the bars of the universe (another ticker, a dated table, the index of a sector).

They become channels of the panel behind those of its bars. At each session a covariate has the value that was known at
the close, and no other.
"""
