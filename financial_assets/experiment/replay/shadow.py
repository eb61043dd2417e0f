"""A replay in which the challenger only gets copies of the requests: its share is withdrawn and given back afterwards.

Both steps are weight epochs like any other, so the log records what was routed how, and a replay that was killed in
between is recognised by the reason of the current epoch.
"""

from __future__ import annotations

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.rollout.state import Rollout

__all__ = ["enter_shadow", "is_shadow_replay", "leave_shadow"]

_BEGINS = "replay --mode shadow: the challenger gets copies only"
_ENDS = "replay --mode shadow has ended"


def is_shadow_replay(epoch: WeightEpoch) -> bool:
    """Whether a replay has withdrawn the challenger's share and not given it back yet."""
    return epoch.reason == _BEGINS


def enter_shadow(rollout: Rollout) -> WeightEpoch:
    """The epoch in which the challenger has no share; the current one if it has none already."""
    return rollout.take_step(0, _BEGINS)


def leave_shadow(rollout: Rollout) -> WeightEpoch:
    """The epoch with the previous weights; the current one unless a replay has withdrawn the challenger's share."""
    current = rollout.started()
    if not is_shadow_replay(current):
        return current
    previous = rollout.log.known_epoch(current.experiment, current.number - 1)
    return rollout.change_weights(previous.weights, _ENDS, regimes=previous.regimes)
