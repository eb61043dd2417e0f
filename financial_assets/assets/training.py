"""Group training: one asset a model variant, and the reference models that every variant is compared with."""

from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from financial_assets.assets.checks.checkable import checkable_asset
from financial_assets.assets.features import features
from financial_assets.errors import TrainingError
from financial_assets.metadata import link, plot, rounded, table
from financial_assets.models.baselines.fitted import fit_baselines
from financial_assets.models.fitting.registry import FITTERS
from financial_assets.models.lifecycle import TrainedModel
from financial_assets.models.onnx.export import file_sha256
from financial_assets.models.plots import plot_history
from financial_assets.models.scores import check_answers, check_not_constant, held_out_scores
from financial_assets.models.variants import Variant
from financial_assets.resources import Market, Models
from financial_assets.resources.pipeline_run import DAGSTER_RUN, dagster_page, pipeline_run_of

_ARCHITECTURES = {
    "lstm": "{layers} x {hidden} LSTM",
    "multiscale": "Three LSTMs of {hidden} units over daily, two-day and four-day steps, joined by attention",
    "attention": "{layers} x {hidden} LSTM, pooled over the steps by attention",
    "transformer": "Transformer encoder, {layers} layers of width {hidden}",
    "linear": "Logistic, quantile and ridge regressions, regularised as the stop block asks for",
    "boosted": "Gradient-boosted trees of up to {hidden} leaves, up to {epochs} rounds each, ended by the stop block",
    "ensemble": "Convex weights of {members}, by volatility, fitted on the stop block",
}
"""How the networks of ``networks.build.NETWORKS`` are described; others by their name."""

GROUP = "training"
OWNERS = ["team:quant-research"]


class TrainingConfig(dg.Config):
    """Settings that one run overrides: the result is another model, with its own fingerprint, version and trial.

    To train some of the variants only, select their assets.
    """

    seed: int | None = Field(default=None, ge=0, description="Seed of weights and of their training; default: SEED.")
    max_epochs: int | None = Field(
        default=None, ge=1, description="Upper limit of the variant's epochs; default: MAX_EPOCHS."
    )


def lineage_tags(context: dg.AssetExecutionContext, models: Models) -> dict[str, str]:
    """Tags that lead from MLflow back to the Dagster run and asset."""
    return {
        DAGSTER_RUN: context.run.run_id,
        "dagster.job": context.run.job_name,
        "dagster.asset": context.asset_key.to_user_string(),
        **dagster_page(models.dagster_ui_url, context.run.run_id),
    }


def mlflow_metadata(models: Models, run_id: str) -> dict[str, Any]:
    """A run of MLflow: its id, and its page where one is known."""
    page = models.tracker().page(run_id)
    return {"mlflow run": run_id, **({} if page is None else {"mlflow page": dg.MetadataValue.url(page)})}


def data_cutoff(context: dg.AssetExecutionContext, market: Market) -> pd.Timestamp:
    """The last session that the asset may learn from.

    Raises
    ------
    TrainingError
        Nothing was ingested yet.
    """
    cutoff = market.cutoff_of(context.asset_key.to_user_string())
    if cutoff is None:
        raise TrainingError("there is no data cut-off yet; run `financial-assets run`")
    return cutoff


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"scikitlearn"}, code_version="1", deps=[features])
def reference_models(context: dg.AssetExecutionContext, market: Market, models: Models) -> dg.MaterializeResult:
    """Reference forecasters of direction, risk and ranking.

    Majority class, persistence and logistic regression; historical quantiles, filtered historical simulation,
    RiskMetrics and HAR; reversal and momentum.

    They are fitted on the same blocks as the networks, and every model is compared with them.
    """
    fitted = fit_baselines(
        market.load_features(),
        market.load_panel(),
        cutoff=data_cutoff(context, market),
        sequence_length=models.sequence_length,
    )
    models.keep_baselines(fitted)
    context.log.info(f"majority class: up {fitted.majority_up:.1%} of the time in the fit block")
    if fitted.har_silent:
        context.log.warning(f"the reference model har says nothing of some tickers: {fitted.har_silent}")
    weights = pd.DataFrame({"feature": fitted.feature_names, "coefficient": fitted.coefficients})
    order = weights["coefficient"].abs().sort_values(ascending=False).index
    return dg.MaterializeResult(
        data_version=dg.DataVersion(file_sha256(models.baselines_path)),
        metadata={
            "share up in the fit block": fitted.majority_up,
            "data cut-off": fitted.cutoff,
            "logistic regularisation C": fitted.regularisation,
            "without a HAR forecast": fitted.har_silent or "no ticker",
            "largest logistic coefficients": table(weights.loc[order].head(20)),
            "file": link(models.baselines_path),
        },
    )


def make_model_asset(variant: Variant) -> dg.AssetsDefinition:
    """The asset ``models/<variant>``."""
    key = dg.AssetKey(["models", variant.name])
    # In a run of all, the members are trained first, and the ensemble finds them.
    members = [dg.AssetKey(["models", member.name]) for member in variant.members]

    def judge(market: Market, models: Models) -> list[dg.AssetCheckResult]:
        return _checks(models.lifecycle().current_training(variant.name), market.bayes_accuracy)

    @checkable_asset(
        judge=judge,
        key=key,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"pytorch", "mlflow"},
        code_version="1",
        deps=[features, *members],
        pool="training",
        description=f"{_described(variant)}; probability, quantiles and score calibrated.",
        check_specs=[
            dg.AssetCheckSpec("not_constant", asset=key, blocking=True, description="Answers depend on the question"),
            dg.AssetCheckSpec("no_leak_alarm", asset=key, blocking=True, description="Not too good to be true"),
            dg.AssetCheckSpec("beats_majority", asset=key, description="Held-out accuracy above the majority class"),
        ],
    )
    def model(
        context: dg.AssetExecutionContext, config: TrainingConfig, market: Market, models: Models
    ) -> dg.MaterializeResult:
        pipeline = pipeline_run_of(context.instance, context.run.run_id)
        features_of_panel, panel = market.load_features(), market.load_panel()
        trained = models.lifecycle(seed=config.seed, max_epochs=config.max_epochs).develop(
            variant,
            features_of_panel,
            panel,
            cutoff=data_cutoff(context, market),
            tags=lineage_tags(context, models),
            parent=pipeline,
        )
        models.record_training(trained, panel)
        accuracy = held_out_scores(trained.training.held_out)["accuracy"]
        if pipeline is not None:  # its page then compares the variants
            score = {f"{variant.name}/held_out_accuracy": accuracy.estimate}
            models.tracker().opened(pipeline).log_metrics(score)
        how = "reused" if trained.reused else f"trained in {trained.training.seconds:.1f} s"
        context.log.info(
            f"{how}, best epoch {trained.training.best_epoch}; held-out accuracy {accuracy.estimate:.1%} "
            f"[{accuracy.low:.1%}, {accuracy.high:.1%}], majority {trained.training.held_out.majority_rate:.1%}"
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(trained.fingerprint),
            check_results=_checks(trained, market.bayes_accuracy),
            metadata=_metadata(trained, models),
        )

    return model


def _described(variant: Variant) -> str:
    """Architecture and training in one line."""
    summary = _ARCHITECTURES.get(variant.network, f"{variant.network} of {variant.layers} x {variant.hidden} units")
    members = ", ".join(member.name for member in variant.members)
    what = summary.format(layers=variant.layers, hidden=variant.hidden, epochs=variant.epochs, members=members)
    if variant.network in FITTERS:
        return what
    return (
        f"{what}, up to {variant.epochs} epochs at {variant.learning_rate:g}, dropout {variant.dropout:g}; best epoch "
        "restored"
    )


def _checks(trained: TrainedModel, bayes_accuracy: float | None) -> list[dg.AssetCheckResult]:
    answers = trained.training.held_out
    constant, leak = check_not_constant(answers), check_answers(answers, bayes_accuracy=bayes_accuracy)
    margin = held_out_scores(answers)["accuracy_minus_majority"]
    return [
        dg.AssetCheckResult(
            check_name="not_constant",
            passed=not constant.constant,
            metadata={
                "constant heads": ", ".join(constant.constant_heads) or "none",
                "deviation of the probability": rounded(constant.probability_deviation),
                "share of answers up": rounded(constant.share_up),
            },
        ),
        dg.AssetCheckResult(
            check_name="no_leak_alarm",
            passed=not leak.alarm,
            metadata={
                "accuracy": rounded(leak.accuracy.estimate),
                "99.9 % lower bound": rounded(leak.accuracy.low),
                "heads that know too much": ", ".join(leak.heads) or "none",
                "verdict": str(leak),
            },
        ),
        dg.AssetCheckResult(
            check_name="beats_majority",
            passed=margin.low > 0,
            severity=dg.AssetCheckSeverity.WARN,
            description="Whether the day-clustered 95 % interval of the margin is above zero; most models fail.",
            metadata={
                "margin": rounded(margin.estimate),
                "low": rounded(margin.low),
                "high": rounded(margin.high),
                "days": margin.days,
            },
        ),
    ]


def _metadata(trained: TrainedModel, models: Models) -> dict[str, Any]:
    training = trained.training
    scores = held_out_scores(training.held_out)
    rows = pd.DataFrame(
        {"score": name, "estimate": score.estimate, "low": score.low, "high": score.high, "days": score.days}
        for name, score in scores.items()
    )
    return {
        "fingerprint": trained.fingerprint,
        "reused": str(trained.reused),
        **mlflow_metadata(models, trained.run_id),
        "device": training.device,
        "seconds": rounded(training.seconds),
        "best epoch": float(training.best_epoch),
        "data cut-off": f"{training.cutoff:%Y-%m-%d}",
        **{f"held_out/{name}": rounded(score.estimate) for name, score in scores.items()},
        "held-out scores, uncalibrated, with day-clustered 95 % intervals": table(rows),
        "learning curve": plot(plot_history(training.history, training.best_epoch), "learning curve"),
    }
