"""How good a way of forecasting was, again and again: fitted on the past of a cut-off, judged on what came after it.

``folds`` lays the folds, ``run`` fits and forecasts one, ``scores`` judges the forecasts of all.
"""
