"""A request for judgement: checked against what is kept, judged, and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from financial_assets.errors import JudgeError
from financial_assets.experiment.judge.kept import Kept, Update
from financial_assets.experiment.judge.plan import JudgePlan
from financial_assets.experiment.judge.series import ARMS, Arm, Outcome, Series, read_series, watermark
from financial_assets.experiment.judge.store import LONG_AGO, JudgeStore, RegisteredPlan
from financial_assets.experiment.judge.units import units_of
from financial_assets.experiment.judge.verdict import Judgement, judge


def judge_series(
    store: JudgeStore,
    plan: RegisteredPlan,
    outcomes: Mapping[Arm, Sequence[Outcome]],
    *,
    complete_through: datetime | None = None,
    revision: str | None = None,
    now: datetime,
) -> Kept:
    """Judge two series by a registered plan, and keep the judgement.

    Parameters
    ----------
    store, plan
        The plan's own store.
    outcomes
        All of both arms since the test began: those of the last time, and what came since.
    complete_through
        Instant before which both are complete; default: the earlier one of their last times.
    revision
        Of the candidate. The first one that is named is that of the plan.
    now
        The server's clock.

    Raises
    ------
    JudgeError
        The series are wrong, or rewrite their past; or the revision is another one.
    ChainError, StorageError
        The store is damaged, or cannot be written.
    """
    series = read_series(plan.plan, outcomes, start=plan.start, now=now)
    complete = watermark(plan.plan, series, complete_through, now)
    with store.updating(plan) as update:
        bind(plan, update, revision)
        _continues(plan, update.before, series, complete)
        judgement = update.before.judgement
        # What was reached is kept as it was reached: later outcomes belong to no test.
        if judgement is None or not judgement.final:
            judgement = judge(plan.plan, units_of(plan.plan, series, complete))
        update.change(judgement=judgement, judged_at=now, complete=complete, series=_digest(series, complete))
    return update.kept


def judge_once(plan: JudgePlan, outcomes: Mapping[Arm, Sequence[Outcome]], *, now: datetime) -> Judgement:
    """Judge two series by a plan that nobody has registered: a look at data that may have been known before.

    Raises
    ------
    JudgeError
        The series are wrong.
    """
    series = read_series(plan, outcomes, start=plan.starts or LONG_AGO, now=now)
    return judge(plan, units_of(plan, series, watermark(plan, series, None, now)))


def bound_to(store: JudgeStore, plan: RegisteredPlan, revision: str | None) -> Kept:
    """What is kept, for who asks about a revision; the first one that is named is that of the plan.

    Raises
    ------
    JudgeError
        The plan has judged another revision.
    """
    if revision is None or revision == store.kept(plan).revision:
        return store.kept(plan)
    with store.updating(plan) as update:
        bind(plan, update, revision)
    return update.kept


def bind(plan: RegisteredPlan, update: Update, revision: str | None) -> None:
    """Bind a plan to a revision: a verdict about one must never promote another."""
    if revision is None:
        return
    known = plan.plan.revision or update.kept.revision
    if known is not None and known != revision:
        raise JudgeError(
            "other_revision",
            "conflict",
            f"{plan.name} is the test of revision {known}, not of {revision}",
            "register a new plan, with a name of its own, for each revision",
            [("revision", f"is {known} in this test")],
        )
    update.change(revision=revision)


def _continues(plan: RegisteredPlan, before: Kept, series: dict[Arm, Series], complete: int) -> None:
    if before.series is None:
        return
    if complete < before.complete:
        raise JudgeError(
            "series_is_behind",
            "conflict",
            f"the series end before those that {plan.name} has judged already",
            "send all outcomes of the test, those of the last time first; GET the plan's verdict to see how far it is",
            [(arm, "ends too early") for arm in ARMS],
        )
    if _digest(series, before.complete) != before.series:
        raise JudgeError(
            "past_rewritten",
            "conflict",
            f"the series differ from those that {plan.name} has judged already, before the instant up to which these "
            "were complete",
            "only append: an outcome that was judged cannot be changed, taken away or added to. If the past was wrong, "
            "register a new plan and begin anew",
            [(arm, "or the other series was changed") for arm in ARMS],
        )


def _digest(series: dict[Arm, Series], complete: int) -> str:
    parts = [series[arm].before(complete).digest() for arm in ARMS]
    return hashlib.sha256("".join(parts).encode()).hexdigest()
