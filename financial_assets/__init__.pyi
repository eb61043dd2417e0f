from financial_assets.research import backtest as backtest
from financial_assets.research import compare_models as compare_models
from financial_assets.research import features as features
from financial_assets.research import load_panel as load_panel
from financial_assets.research import walk_forward as walk_forward
