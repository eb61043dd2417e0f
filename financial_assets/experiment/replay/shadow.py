"""A replay in which the challenger only gets copies of the requests: its share is taken, and given back afterwards.

Both are weight epochs like any other, so that the log says what was routed how, and a replay that was killed in between
is recognised by the reason of the epoch in force.
"""

from __future__ import annotations

from financial_assets.experiment.arms import WeightEpoch
from financial_assets.experiment.rollout.state import Rollout

__all__ = ["enter_shadow", "is_shadow_replay", "leave_shadow"]

_BEGINS = "replay --mode shadow: the challenger gets copies only"
_ENDS = "replay --mode shadow has ended"


def is_shadow_replay(epoch: WeightEpoch) -> bool:
    """Whether a replay has taken the challenger's share and not given it back yet."""
    return epoch.reason == _BEGINS


def enter_shadow(rollout: Rollout) -> WeightEpoch:
    """The epoch in which the challenger has no share; the present one if it has none already."""
    return rollout.take_step(0, _BEGINS)


def leave_shadow(rollout: Rollout) -> WeightEpoch:
    """The epoch with the weights of before; the present one unless a replay has taken the challenger's share."""
    current = rollout.started()
    if not is_shadow_replay(current):
        return current
    before = rollout.log.known_epoch(current.experiment, current.number - 1)
    return rollout.change_weights(before.weights, _ENDS, regimes=before.regimes)
