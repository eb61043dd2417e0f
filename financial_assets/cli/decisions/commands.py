"""Commands about decisions: take one, explain it, compute it anew, approve it; halt them all, resume; judge any two."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from financial_assets.cli import examples, open_configured
from financial_assets.errors import ExperimentError

if TYPE_CHECKING:
    from rich.console import Console

    from financial_assets.experiment.decision.record import Decision, Look
    from financial_assets.experiment.plan.plan import ExperimentPlan
    from financial_assets.installation import ABTestState


@click.command(epilog=examples("decide", "decide --explain", "decide --repeat 3f0c9a1b2d4e"))
@click.option("--explain", is_flag=True, help="Print plan, looks, intervals and guardrails too.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@click.option("--repeat", "digest", metavar="RECORD", help="Recompute a recorded decision and compare it bit for bit.")
def decide(explain: bool, as_json: bool, digest: str | None) -> None:
    """Decide to promote, hold or roll back, and record it.

    The decision is made as of the market clock; the asset rollout carries it out. Its record id is the 12 characters
    after "record" in the output, the end of the file names in reports/decisions of the state folder, and part of the
    A/B report; the first characters are enough for --repeat and approve.
    """
    installation = open_configured()
    from rich.console import Console
    from rich.padding import Padding

    from financial_assets.experiment.decision.words import reasons_in_words
    from financial_assets.experiment.report.questions import label_of
    from financial_assets.workflows.decisions import decide_now, repeat_decision, unasked_questions

    market, models, ab_test = installation.market, installation.models, installation.ab_test
    if digest is not None:
        recorded = find_decision(ab_test, digest)
        again = repeat_decision(recorded, market, models, ab_test)
        if again.to_json() != recorded.to_json():
            before, after = recorded.to_dict(), again.to_dict()
            changes = [f"  {name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
            raise click.ClickException(
                f"{recorded.digest[:12]} differs from what log and prices give now: made by an earlier version, or "
                "log or prices have changed since.\n" + "\n".join(changes)
            )
        click.echo(f"{recorded.digest[:12]} of {recorded.as_of}: recomputed, identical bit for bit")
        return
    judgements = decide_now(market, models, ab_test)
    if as_json:
        records = [judgement.decision.to_dict() for judgement in judgements]
        click.echo(json.dumps(records[0] if len(records) == 1 else records, indent=2))
        return
    if not judgements:
        click.echo("There is no challenger: nothing to decide.")
    console = Console()
    for judgement in judgements:
        decision, plan = judgement.decision, judgement.plan
        label = label_of(plan, [other.plan for other in judgements])
        of = f"  {label}" if label else ""
        verdict = f"[bold]{decision.action.upper()}[/bold]{of}"
        console.print(f"{verdict}  as of {decision.as_of}  record {decision.digest[:12]}", soft_wrap=True)
        for reason in reasons_in_words(decision, plan):
            console.print(Padding(reason, (0, 0, 0, 2)), highlight=False)
        if explain:
            _explain(console, plan, decision)
    for unasked in unasked_questions(ab_test) if judgements else ():
        console.print(unasked.sentence[:1].upper() + unasked.sentence[1:] + ".", highlight=False)


@click.command(epilog=examples("approve 3f0c9a1b2d4e", "approve 3f0c9a1b2d4e --by 'Jane Doe'"))
@click.argument("record")
@click.option("--by", default=getpass.getuser, help="Who approves; default: the user of this machine.")
def approve(record: str, by: str) -> None:
    """Approve a recorded promotion that waits for a person.

    Needed only if the rollout policy says traffic.approval: manual. RECORD is the id that decide prints.
    """
    ab_test = open_configured().ab_test
    decision = find_decision(ab_test, record)
    if not decision.moves_traffic:
        raise click.ClickException(
            f"{decision.digest[:12]} answers the question of {decision.question}, which moves no traffic: there is "
            "nothing to approve; test.question of the rollout policy names the one that does"
        )
    if decision.action != "promote":
        raise click.ClickException(f"{decision.digest[:12]} says {decision.action}: there is nothing to approve")
    with ab_test.log() as log:
        log.approve(decision.digest, by)
    click.echo(f"{decision.challenger} may replace {decision.champion}; the next run of `rollout` does it")


def find_decision(ab_test: ABTestState, digest: str, *, latest: bool = False) -> Decision:
    """The recorded decision whose digest begins like this, or the latest of all.

    Raises
    ------
    ExperimentError
        There is none, or more than one.
    """
    with ab_test.log() as log:
        decisions = log.decisions(ab_test.policy().experiment)
    if latest and decisions:
        return decisions[-1]
    matches = [record for record in decisions if record.digest.startswith(digest.lower())]
    if len(matches) != 1:
        latest_five = ", ".join(f"{record.digest[:12]} ({record.as_of}, {record.action})" for record in decisions[-5:])
        count = f"{len(matches)} recorded decisions begin" if matches else "no recorded decision begins"
        raise ExperimentError(f"{count} with {digest!r}; the latest: {latest_five or 'none'}")
    return matches[0]


def _explain(console: Console, plan: ExperimentPlan, decision: Decision) -> None:
    from financial_assets.cli.tables import make_table
    from financial_assets.experiment.decision.guardrail_words import guardrail_lines
    from financial_assets.experiment.decision.reasons import sessions_in_words
    from financial_assets.experiment.decision.series import metric_of, question_of
    from financial_assets.experiment.decision.words import (
        amount,
        horizon_in_words,
        metric_and_why,
        power_in_words,
        progress,
        signed_amount,
    )

    test = plan.test
    rows = [
        (
            "registered",
            f"as of {plan.registered_as_of}; evidence: sessions after {plan.starts_after}; plan {plan.digest[:12]}",
        ),
        (
            "question",
            question_of(plan) + ("" if plan.moves_traffic else f"; traffic follows {plan.traffic_question}"),
        ),
        ("metric", f"{metric_and_why(plan)}; better by more than {amount(test.margin, metric_of(plan))}"),
        ("daily deviation", f"{amount(plan.spread.deviation, metric_of(plan))}: {plan.spread.basis}"),
        (
            "smallest detectable",
            f"{amount(plan.detectable, metric_of(plan))} in {plan.looks[-1]} days with {100 * test.power:.0f} % power"
            + (", by the whole rule" if plan.whole_rule else ""),
        ),
        (
            "most one can expect",
            f"{amount(test.plausible_effect, metric_of(plan))}, which takes "
            + sessions_in_words(plan, plan.days_for_plausible),
        ),
        ("lasts", horizon_in_words(plan)),
        *_conditions(plan),
        ("progress", "; ".join(progress(decision, plan))),
        (
            "error probability",
            f"{plan.alpha_planned:g} for the planned looks ({decision.alpha_spent:.2g} spent), {plan.alpha_always:g} "
            "for the interval that is valid on every day"
            + (f"; each of {plan.family} tests at once gets this part" if plan.family > 1 else ""),
        ),
    ]
    console.print(make_table("plan", ("", ""), rows))
    for sentence in power_in_words(plan):
        console.print(sentence, highlight=False)
    looks = {look.day: look for look in decision.looks}
    rows = [
        (
            str(day),
            f"{bound:.2f}",
            f"{looks[day].z:.2f}" if day in looks else "-",
            _deviation(looks.get(day), plan),
            _listed(looks[day].against) if day in looks else "-",
            _listed(looks[day].guards) if day in looks else "-",
        )
        for day, bound in zip(plan.looks, plan.boundaries, strict=True)
    ]
    console.print(
        make_table(
            "planned looks",
            ("day", "needed z", "z seen", "daily deviation", "z against baselines", "z of guards"),
            rows,
        )
    )
    always = decision.always_on
    low, high = (signed_amount(bound, metric_of(plan)) for bound in (always.low, always.high))
    mean = "no day yet" if decision.estimate is None else f"mean {signed_amount(decision.estimate, metric_of(plan))}"
    console.print(
        f"{decision.challenger} minus {decision.champion}: {mean}. With {plan.confidence.rstrip('%')} % confidence, "
        f"valid on every day: between {low} and {high}.",
        highlight=False,
    )
    rows = [
        (
            line.name,
            f"[red]{line.state}[/red]" if line.state == "FIRED" else line.state,
            f"{line.seen} of {line.requests}",
            line.expected,
            f"{line.p_value} ({line.alarm})",
        )
        for line in guardrail_lines(decision, plan)
    ]
    console.print(make_table("guardrails", ("", "state", "seen", "expected", "p-value"), rows))


def _conditions(plan: ExperimentPlan) -> list[tuple[str, str]]:
    """The conditions beside the champion's defeat; none of them under the first rule, whose record names them."""
    from financial_assets.experiment.decision.reasons import listed
    from financial_assets.experiment.decision.series import metric_of
    from financial_assets.experiment.decision.words import amount

    if plan.rule == 1:
        return []
    test, margin = plan.test, amount(plan.noninferiority_margin, metric_of(plan))
    hope = f"below {100 * test.futility:.0f} %: probability of winning at the most one can expect, at a look"
    if plan.uneven:
        hope = "never, because its days are too uneven for a look to tell"
    elif not test.futility:
        hope = "never"
    return [
        ("baselines", f"not worse than {listed(plan.must_beat)} by {margin}"),
        ("ends without hope", hope),
    ]


def _deviation(look: Look | None, plan: ExperimentPlan) -> str:
    """The deviation of a day that a look estimated; looks of earlier versions do not say it."""
    from financial_assets.experiment.decision.series import metric_of
    from financial_assets.experiment.decision.words import amount

    return amount(look.deviation, metric_of(plan)) if look is not None and look.deviation else "-"


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {z:.2f}" for name, z in values.items()) or "-"


@click.command(epilog=examples("halt --reason 'prices look wrong'", "--home .mine halt"))
@click.option("--reason", default="", help="Why, for everybody who finds trading halted.")
@click.option("--by", default=getpass.getuser, help="Who halts; default: the user of this machine.")
def halt(reason: str, by: str) -> None:
    """Stop all orders and freeze champion and traffic, at once.

    Open orders of the paper book are cancelled, and no new ones are made. Nothing is promoted, rolled back or given
    other weights, and no new arm enters. Running daemons see it with the next thing they do; signals, predictions and
    reports go on, and say that trading is halted. `financial-assets resume` ends it.
    """
    from financial_assets.errors import ChainError, OrderError
    from financial_assets.halt import KillSwitch
    from financial_assets.settings import load_settings

    settings = load_settings()
    switch = KillSwitch.of(settings.home)
    # The switch first: whatever happens to the open orders, no more follow.
    halted = switch.halt(reason, by)
    click.echo(halted.sentence)
    from financial_assets.installation import TradingState, configure

    trading = configure(TradingState, settings)
    try:
        with trading.alone("cancelling open orders", timeout_s=10.0):
            broker = trading.paper
            cancelled = broker.cancel(broker.state().open_keys, reason=f"halted: {halted.reason}")
    except (ChainError, OrderError) as error:
        raise click.ClickException(
            f"trading is halted, but open orders of the paper book were not cancelled; none is executed as long as the "
            f"halt lasts: {error}"
        ) from error
    click.echo(f"open orders cancelled: {', '.join(cancelled) or 'there were none'}")


@click.command(epilog=examples("resume", "resume --by 'Jane Doe'"))
@click.option("--by", default=getpass.getuser, help="Who resumes; default: the user of this machine.")
def resume(by: str) -> None:
    """End a halt of orders and experiment.

    Cancelled orders stay cancelled. The next run of the job daily makes orders again, and the experiment moves with its
    next decision.
    """
    from financial_assets.halt import KillSwitch
    from financial_assets.settings import load_settings

    switch = KillSwitch.of(load_settings().home)
    ended = switch.resume(by)
    click.echo("there was no halt" if ended is None else f"resumed; it was {ended.sentence}")


@click.command(epilog=examples("judge plan.yaml series.csv", "judge plan.yaml series.csv --json"))
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("series", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the judgement as JSON.")
def judge(plan: Path, series: Path, as_json: bool) -> None:
    """Judge a candidate against a control, by a plan.

    PLAN is a YAML file with the fields of a plan (docs/judge.md). SERIES is a CSV file with the columns arm (control or
    candidate), at, value and, where requests are paired, id; each arm in order.

    Nothing is registered or kept, so this proves nothing about data that were known when the plan was written.
    """
    from dataclasses import asdict
    from datetime import UTC, datetime

    from financial_assets.experiment.judge.files import read_outcomes, read_plan
    from financial_assets.experiment.judge.judging import judge_once

    made = read_plan(plan)
    found = judge_once(made, read_outcomes(series), now=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(asdict(found) | {"plan_digest": made.digest}, indent=2))
        return
    click.echo(found.reason)
    click.echo(f"control {found.control:,}, candidate {found.candidate:,} complete outcomes; plan {made.digest[:12]}")
