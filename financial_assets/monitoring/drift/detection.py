"""Drift: which inputs have shifted, and whether the model's loss has risen, since the model was trained.

Every stream is judged by a prewhitened CUSUM, against a threshold that is set by false alarms per year. The reference
is fixed: one that moves along hides slow drift.

An alarm holds from the session on which the sum crosses its threshold until the sum has come down from its peak by as
much as the threshold; then the sum restarts at zero (``cusum.run_cusum``). A lasting change does not let it come down
that far. The threshold alone would not do: the sum of a lasting change falls below it again and again.

Features are judged in four aspects (``aspects``), by innovations that a wild year leaves as they are (``whitening``),
and thresholds that hold where volatility clusters (``robust``). The loss is judged as it is, since its mean is what
counts, and upwards only (``loss``). ``docs/drift.md`` has the measured error rates and what each step is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from financial_assets.errors import MonitoringError
from financial_assets.monitoring.drift import cusum
from financial_assets.monitoring.drift.features import judge_features
from financial_assets.monitoring.drift.loss import judge_loss
from financial_assets.monitoring.drift.rows import blank_row

LOSS = "loss"
"""Name of the loss stream."""


@dataclass(frozen=True)
class DriftPolicy:
    """How many false alarms are acceptable.

    Attributes
    ----------
    features_a_year
        False alarms per year of all features together.
    loss_a_year
        False alarms per year of the loss.
    """

    features_a_year: float = 0.1
    loss_a_year: float = 0.1


@dataclass(frozen=True, eq=False)
class DriftReport:
    """Which streams have shifted.

    Attributes
    ----------
    alarm
        Whether the alarm of a stream holds: its sum has been beyond the threshold, and has not restarted since.
    streams
        One row per stream, the loss first, then features by statistic over threshold: ``name``, ``state`` (``watched``;
        ``constant``: it never moved in the reference, so it is not judged; ``waiting``: no session to judge yet),
        ``aspect`` (of a feature, the one that the row tells of: that of its alarm, else the one closest to its
        threshold; ``level``, ``scale``, ``stuck`` or ``range``), ``statistic`` (highest value of the
        larger sum so far), ``threshold``, ``now`` (the larger sum over the threshold on the last session, the largest
        of all aspects), ``alarmed`` (its alarm holds), and of the latest alarm, whether it holds or not: ``since`` (its
        first session beyond the threshold), ``ended`` (session on which the sum restarted; NaT: it holds), ``onset``
        (estimated first session of the new mean: the one after the sum was last zero), ``direction`` (``up``,
        ``down``), ``shift`` (of a level: mean from the onset to the end minus the reference's, in the reference's
        standard deviations; of a scale: mean size over the reference's; NaN for a fault), ``chance`` (that a
        year without drift goes as far, all streams of the same budget together; 0 for a fault). Then ``psi``, ``ks``
        (for display only), ``reference`` (sessions) and ``coefficient`` (first autocorrelation of the fitted process).
    moved
        Names of the features whose alarm holds, the clearest first.
    paths
        Larger sum over threshold, negative where it is the lower one, ``[session, stream]``; beyond +-1 is alarm. Of a
        feature, the aspect that is furthest. NaN where a stream has no value, or is not judged.
    """

    alarm: bool
    streams: pd.DataFrame
    moved: tuple[str, ...]
    paths: pd.DataFrame

    @property
    def loss_alarm(self) -> bool:
        """The relation of inputs and outcome has changed, not only the inputs."""
        return bool(self.streams.loc[self.streams["name"] == LOSS, "alarmed"].any())

    @property
    def passed(self) -> tuple[str, ...]:
        """Names of the streams whose alarm no longer holds, in the order of ``streams``."""
        return tuple(self.streams.loc[self.streams["ended"].notna(), "name"])

    @property
    def since(self) -> pd.Timestamp | None:
        """First session of the loss's alarm, else of the earliest one of a feature; ``None`` where none holds."""
        loss = self.streams["name"] == LOSS
        first = self.streams.loc[self.streams["alarmed"] & (loss if self.loss_alarm else ~loss), "since"].min()
        return None if pd.isna(first) else pd.Timestamp(first)


def detect_drift(
    *,
    feature_reference: pd.DataFrame,
    features: pd.DataFrame,
    loss_reference: pd.Series,
    loss: pd.Series,
    policy: DriftPolicy | None = None,
    folder: Path | None = None,
) -> DriftReport:
    """Judge the streams after the data cut-off against their reference.

    A reference of fewer than 60 sessions is completed with the first sessions after it, which are then not judged.
    Every threshold is at least as high as the statistic ever came on the reference itself: a stream unlike the
    simulated processes shows it there.

    Limits: where a level wanders, a shift of it by as much as it usually wanders is not told from that. A market whose
    volatility really moves to another regime does move the features, and an alarm about it is not false. What leaves
    the daily means, their moves and their relations to each other as they were is not seen at all.

    Parameters
    ----------
    feature_reference, features
        Daily feature means ``[session, feature]`` of the training span and of the sessions after it.
    loss_reference, loss
        Daily excess loss of the model on its held-out block and as served.
    policy
        False alarms allowed; default :class:`DriftPolicy`.
    folder
        Where simulated thresholds are kept from one run to the next; ``None``: nowhere.

    Raises
    ------
    MonitoringError
        If sessions repeat, are out of order or overlap, columns differ, a value is infinite, or a name repeats.
    """
    policy = policy or DriftPolicy()
    if list(feature_reference.columns) != list(features.columns) or not features.columns.is_unique:
        raise MonitoringError("reference and monitored features differ: materialize `features` again")
    if LOSS in features.columns:
        raise MonitoringError(f"no feature may be called {LOSS!r}: that is the loss stream")
    losses = loss_reference.to_frame(LOSS), loss.to_frame(LOSS)
    loss_rows, loss_paths = _judge(*losses, policy.loss_a_year, folder, is_loss=True)
    rows, paths = _judge(feature_reference, features, policy.features_a_year, folder, is_loss=False)
    strength = rows["statistic"] / rows["threshold"]
    rows = rows.loc[strength.sort_values(ascending=False, na_position="last", kind="stable").index]
    streams = pd.DataFrame([*loss_rows.to_dict("records"), *rows.to_dict("records")]).astype(
        dict.fromkeys(("since", "ended", "onset"), "datetime64[ns]")
    )
    return DriftReport(
        alarm=bool(streams["alarmed"].any()),
        streams=streams,
        moved=tuple(rows.loc[rows["alarmed"], "name"]),
        paths=pd.concat([loss_paths, paths], axis=1).sort_index(),
    )


def _judge(
    reference: pd.DataFrame, monitored: pd.DataFrame, budget: float, folder: Path | None, *, is_loss: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    _check(reference, monitored)
    lacking = cusum.MINIMUM_REFERENCE - int(reference.notna().sum().min()) if reference.shape[1] else 0
    if lacking > 0:  # without overlap: a session that made the reference cannot be evidence against it
        reference, monitored = pd.concat([reference, monitored.iloc[:lacking]]), monitored.iloc[lacking:]
    names = list(map(str, monitored.columns))
    if int(reference.notna().sum().min()) < cusum.MINIMUM_REFERENCE:
        blank = pd.DataFrame(np.nan, index=monitored.index, columns=names)
        return pd.DataFrame([blank_row(name, "waiting", int(reference[name].notna().sum())) for name in names]), blank
    judge = judge_loss if is_loss else judge_features
    return judge(reference, monitored, budget, folder)


def _check(reference: pd.DataFrame, monitored: pd.DataFrame) -> None:
    sessions = reference.index.append(monitored.index)
    if not (sessions.is_monotonic_increasing and sessions.is_unique):
        raise MonitoringError("sessions of reference and monitored span must be in order, each once, without overlap")
    for part, frame in (("reference", reference), ("monitored span", monitored)):
        infinite = [str(name) for name in frame.columns if np.isinf(frame[name].to_numpy(np.float64)).any()]
        if infinite:
            raise MonitoringError(f"infinite values in the {part} of {', '.join(infinite[:5])}")
