"""Group search: one asset a model variant that goes on with its hyper-parameter search; not part of the pipeline."""

from contextlib import nullcontext

import dagster as dg
from pydantic import Field

from financial_assets.assets.features import features
from financial_assets.assets.training import lineage_tags
from financial_assets.metadata import link, plot, table
from financial_assets.models.search.plots import plot_importances, plot_trials
from financial_assets.models.search.result import SearchResult, TrialRecord
from financial_assets.models.variants import Variant
from financial_assets.resources import Market, Models
from financial_assets.resources.pipeline_run import pipeline_run_of
from financial_assets.workflows.search import search_variant

GROUP = "search"


class SearchConfig(dg.Config):
    """Budget of a search."""

    minutes: float | None = Field(default=None, description="Minutes of this run; default: SEARCH_BUDGET.")
    trials: int | None = Field(
        default=None, description="Finished trials, those of earlier runs included; default: SEARCH_TRIALS."
    )


def make_search_asset(variant: Variant) -> dg.AssetsDefinition:
    """The asset ``search/<variant>``."""
    key = dg.AssetKey(["search", variant.name])

    @dg.asset(
        key=key,
        group_name=GROUP,
        owners=["team:quant-research"],
        kinds={"pytorch", "optuna", "mlflow"},
        code_version="1",
        deps=[features],
        pool="training",
        description=(
            f"Hyper-parameter search of {variant.name}: fits on the fit block, judged by the loss on the stop block. "
            "It goes on where it was interrupted. Its best settings are a candidate file; the setting HYPERPARAMETERS "
            "adopts it, nothing else does."
        ),
    )
    def search(
        context: dg.AssetExecutionContext, config: SearchConfig, market: Market, models: Models
    ) -> dg.MaterializeResult:
        def tell(trial: TrialRecord) -> None:
            context.log.info(
                f"trial {trial.number}: {trial.outcome} after {trial.epochs} epochs, loss {trial.loss:.5f}"
            )

        pipeline = pipeline_run_of(context.instance, context.run.run_id)
        result, candidate = search_variant(
            variant.name,
            market,
            models,
            minutes=config.minutes,
            trials=config.trials,
            on_trial=tell,
            parent=None if pipeline is None else nullcontext(models.tracker().opened(pipeline)),
            tags=lineage_tags(context, models),
        )
        context.log.info(result.sentence)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{result.study}-{len(result.trials)}"),
            metadata=_metadata(result) | ({} if candidate is None else {"candidate": link(candidate)}),
        )

    return search


def _metadata(result: SearchResult) -> dict[str, dg.MetadataValue | float | str]:
    best = result.best
    return {
        "result": result.sentence,
        "study": result.study,
        "finished trials": float(len(result.trials)),
        "failed trials": float(result.failed),
        **({} if best is None else {"lowest stop loss": best.loss}),
        "best trials": table(result.table()),
        "trials": plot(plot_trials(result), "loss of each trial on the stop block"),
        "importance of the settings": plot(plot_importances(result), "importance of the settings")
        if result.importances
        else "too few complete trials",
    }
