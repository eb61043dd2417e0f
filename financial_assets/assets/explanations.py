"""Group explanations: one asset a model variant that says what moves its answers; not part of the pipeline."""

import dagster as dg
from pydantic import Field

from financial_assets.metadata import link, plot, table
from financial_assets.models.explanations.explain import ExplanationPlan
from financial_assets.models.explanations.tables import families_table, features_table, heads_table, segments_table
from financial_assets.models.variants import Variant
from financial_assets.resources import Market, Models
from financial_assets.workflows.explanations import Explained, explain_variant


class ExplanationConfig(dg.Config):
    """What to find out, beside what always is."""

    ablation: bool = Field(
        default=False,
        description="Train without each family of features: as many trainings as there are families, times seeds.",
    )
    families: list[str] = Field(default=[], description="Families that are left out, one at a time; default: each.")
    seeds: int = Field(default=1, description="Trainings of each.")


def make_explanation_asset(variant: Variant, model: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The asset ``explanations/<variant>``."""

    @dg.asset(
        key=dg.AssetKey(["explanations", variant.name]),
        group_name="explanations",
        owners=["team:quant-research"],
        kinds={"pytorch", "matplotlib"},
        code_version="1",
        deps=[model],
        pool="training",
        description=(
            f"What moves the answers of {variant.name}, and when it is wrong: integrated gradients, permutation of "
            "feature families, optionally trainings without them, and errors by kind of market, sector, weekday and "
            "volatility, on sessions that its weights never saw."
        ),
    )
    def explanation(
        context: dg.AssetExecutionContext, config: ExplanationConfig, market: Market, models: Models
    ) -> dg.MaterializeResult:
        plan = ExplanationPlan(ablation=config.ablation, families=tuple(config.families), seeds=config.seeds)
        explained = explain_variant(variant.name, market, models, plan, context.log.info)
        for sentence in explained.explanation.sentences:
            context.log.info(sentence)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(explained.explanation.fingerprint), metadata=_metadata(explained)
        )

    return explanation


def _metadata(explained: Explained) -> dict[str, dg.MetadataValue | float | str]:
    explanation = explained.explanation
    error = explanation.completeness_error
    return {
        "in words": "\n\n".join(explanation.sentences),
        "model": explanation.fingerprint,
        "held-out sessions": f"{explanation.first} to {explanation.last}",
        "largest completeness error": "no gradients" if error is None else error,
        "mlflow run": explained.run_id or "the run that trained the model is gone from the tracking store",
        "file": link(explained.path),
        "families": table(families_table(explanation)),
        "loss by head": table(heads_table(explanation)),
        "features that move the direction": table(features_table(explanation)),
        "errors by group": table(segments_table(explanation)),
        **{title: plot(png, title) for title, png in explained.plots.items()},
    }
