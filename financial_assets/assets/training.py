"""Group training: one asset a model variant, and the baselines that every variant is held against."""

import dagster as dg
import pandas as pd

from financial_assets.assets.features import features
from financial_assets.errors import TrainingError
from financial_assets.metadata import link, plot, table
from financial_assets.models.baselines.fitted import fit_baselines
from financial_assets.models.lifecycle import TrainedModel
from financial_assets.models.onnx.export import file_sha256
from financial_assets.models.plots import plot_history
from financial_assets.models.scores import check_answers, check_not_constant, held_out_scores
from financial_assets.models.variants import VARIANTS, Variant
from financial_assets.resources import Market, Models

GROUP = "training"
OWNERS = ["team:quant-research"]


def lineage_tags(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Tags that lead from MLflow back to the Dagster run and asset."""
    return {
        "dagster.run_id": context.run.run_id,
        "dagster.job": context.run.job_name,
        "dagster.asset": context.asset_key.to_user_string(),
    }


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
def baselines(context: dg.AssetExecutionContext, market: Market, models: Models) -> dg.MaterializeResult:
    """Reference forecasters: majority class, persistence, logistic regression and historical quantiles.

    They are fitted on the same blocks as the networks, and every model is compared with them. The variant called
    `baseline` is a network and not one of them.
    """
    fitted = fit_baselines(
        market.load_features(),
        market.load_panel(),
        cutoff=data_cutoff(context, market),
        sequence_length=models.sequence_length,
    )
    models.keep_baselines(fitted)
    context.log.info(f"majority class: up {fitted.majority_up:.1%} of the time in the fit block")
    weights = pd.DataFrame({"feature": fitted.feature_names, "coefficient": fitted.coefficients})
    order = weights["coefficient"].abs().sort_values(ascending=False).index
    return dg.MaterializeResult(
        data_version=dg.DataVersion(file_sha256(models.baselines_path)),
        metadata={
            "share up in the fit block": fitted.majority_up,
            "data cut-off": fitted.cutoff,
            "logistic regularisation C": fitted.regularisation,
            "largest logistic coefficients": table(weights.loc[order].head(20)),
            "file": link(models.baselines_path),
        },
    )


def make_model_asset(variant: Variant) -> dg.AssetsDefinition:
    """The asset ``models/<variant>``."""
    key = dg.AssetKey(["models", variant.name])

    @dg.asset(
        key=key,
        group_name=GROUP,
        owners=OWNERS,
        kinds={"pytorch", "mlflow"},
        code_version="1",
        deps=[features],
        pool="training",
        description=(
            f"{variant.layers} x {variant.hidden} LSTM, up to {variant.epochs} epochs at {variant.learning_rate:g}, "
            f"dropout {variant.dropout:g}; best epoch restored, probability and quantiles calibrated."
        ),
        check_specs=[
            dg.AssetCheckSpec("not_constant", asset=key, blocking=True, description="Answers depend on the question"),
            dg.AssetCheckSpec("no_leak_alarm", asset=key, blocking=True, description="Not too good to be true"),
            dg.AssetCheckSpec("beats_majority", asset=key, description="Held-out accuracy above the majority class"),
        ],
    )
    def model(context: dg.AssetExecutionContext, market: Market, models: Models) -> dg.MaterializeResult:
        panel = market.load_panel()
        trained = models.lifecycle().develop(
            variant,
            market.load_features(),
            panel,
            cutoff=data_cutoff(context, market),
            tags=lineage_tags(context),
        )
        models.record_training(trained, panel)
        accuracy = held_out_scores(trained.training.held_out)["accuracy"]
        how = "reused" if trained.reused else f"trained in {trained.training.seconds:.1f} s"
        context.log.info(
            f"{how}, best epoch {trained.training.best_epoch}; held-out accuracy {accuracy.estimate:.1%} "
            f"[{accuracy.low:.1%}, {accuracy.high:.1%}], majority {trained.training.held_out.majority_rate:.1%}"
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(trained.fingerprint),
            check_results=_checks(trained, market.bayes_accuracy),
            metadata=_metadata(trained),
        )

    return model


def _checks(trained: TrainedModel, bayes_accuracy: float | None) -> list[dg.AssetCheckResult]:
    answers = trained.training.held_out
    constant, leak = check_not_constant(answers), check_answers(answers, bayes_accuracy=bayes_accuracy)
    margin = held_out_scores(answers)["accuracy_minus_majority"]
    return [
        dg.AssetCheckResult(
            check_name="not_constant",
            passed=not constant.constant,
            metadata={
                "deviation of the probability": constant.probability_deviation,
                "share of answers up": constant.share_up,
            },
        ),
        dg.AssetCheckResult(
            check_name="no_leak_alarm",
            passed=not leak.alarm,
            metadata={
                "accuracy": leak.accuracy.estimate,
                "99.9 % lower bound": leak.accuracy.low,
                "verdict": str(leak),
            },
        ),
        dg.AssetCheckResult(
            check_name="beats_majority",
            passed=margin.low > 0,
            severity=dg.AssetCheckSeverity.WARN,
            description="Whether the day-clustered 95 % interval of the margin is above zero; most models fail.",
            metadata={"margin": margin.estimate, "low": margin.low, "high": margin.high, "days": margin.days},
        ),
    ]


def _metadata(trained: TrainedModel) -> dict[str, dg.MetadataValue | float | str]:
    training = trained.training
    scores = held_out_scores(training.held_out)
    rows = pd.DataFrame(
        {"score": name, "estimate": score.estimate, "low": score.low, "high": score.high, "days": score.days}
        for name, score in scores.items()
    )
    return {
        "fingerprint": trained.fingerprint,
        "reused": str(trained.reused),
        "mlflow run": trained.run_id,
        "device": training.device,
        "seconds": training.seconds,
        "best epoch": float(training.best_epoch),
        "data cut-off": f"{training.cutoff:%Y-%m-%d}",
        **{f"held_out/{name}": score.estimate for name, score in scores.items()},
        "held-out scores, uncalibrated, with day-clustered 95 % intervals": table(rows),
        "learning curve": plot(plot_history(training.history, training.best_epoch), "learning curve"),
    }


model_assets = [make_model_asset(variant) for variant in VARIANTS.values()]
