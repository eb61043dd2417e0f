"""The indicators, family by family: each is one function of the bars and one ``Feature``."""
