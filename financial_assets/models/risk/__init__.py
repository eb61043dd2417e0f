"""Classical forecasters of risk, which a network must beat: volatility and quantiles of the next one and five sessions.

``registry.fit_forecasters`` fits them on the past of a cut-off; each fitted one forecasts from there on.
"""
