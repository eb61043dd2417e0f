"""Assets whose checks can be executed by themselves: "Execute" beside a check in Dagster.

Such a check judges what is stored and makes nothing again. When the asset is materialized, its own step gives the
results, as before: what fails a blocking check is never stored, and nothing is computed twice.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import dagster as dg

from financial_assets.errors import FinancialAssetsError
from financial_assets.metadata import source_reference

Judge = Callable[..., Iterable[dg.AssetCheckResult]]
"""Gets what its parameters name, ``context`` and resources of the asset, and gives a result for each of its checks."""


def checkable_asset(
    *,
    judge: Judge,
    check_specs: Sequence[dg.AssetCheckSpec],
    group_name: str,
    owners: Sequence[str],
    kinds: set[str],
    code_version: str,
    deps: Iterable[Any] = (),
    key: dg.AssetKey | None = None,
    description: str | None = None,
    pool: str | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    op_tags: dict[str, str] | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorate a function as ``dagster.asset`` does, so that its checks can also be executed without it.

    Parameters
    ----------
    judge
        Judges what is stored. It raises one of our errors, which names what to materialize, where nothing is.
    check_specs
        All of them name the asset.
    group_name, owners, kinds, code_version, deps, key, description, pool, retry_policy, op_tags
        As those of ``dagster.asset``.
    """
    needed = list(inspect.signature(judge).parameters)

    def decorate(materialize: Callable[..., Any]) -> dg.AssetsDefinition:
        asset_key = key or dg.AssetKey([materialize.__name__])

        # Keeps the parameters, by which Dagster finds configuration and resources.
        @functools.wraps(materialize)
        def step(context: dg.AssetExecutionContext, **given: Any) -> Iterator[Any]:
            checks = {check.name for check in context.selected_asset_check_keys}
            if not context.selected_asset_keys:
                try:
                    for result in judge(**{name: context if name == "context" else given[name] for name in needed}):
                        yield from _asked_for(result, checks)
                except FinancialAssetsError as error:  # what is stored will not change by another attempt
                    raise dg.Failure(str(error), allow_retries=False) from error
                return
            made = materialize(context, **given)
            for result in made if inspect.isgenerator(made) else (made,):
                yield from _asked_for(result, checks)

        return dg.multi_asset(
            name=asset_key.to_python_identifier(),
            specs=[
                dg.AssetSpec(
                    asset_key,
                    deps=deps,
                    description=description or inspect.getdoc(materialize),
                    group_name=group_name,
                    owners=owners,
                    kinds=kinds,
                    code_version=code_version,
                    metadata=source_reference(materialize),
                )
            ],
            check_specs=check_specs,
            can_subset=True,
            pool=pool,
            retry_policy=retry_policy,
            op_tags=op_tags,
        )(step)

    return decorate


def _asked_for(result: Any, checks: Collection[str]) -> Iterator[Any]:
    """A result of a step without those of checks that were not selected, which Dagster would refuse."""
    if isinstance(result, dg.AssetCheckResult):
        if result.check_name in checks:
            yield result
    elif isinstance(result, dg.MaterializeResult):
        wanted = [check for check in result.check_results or () if check.check_name in checks]
        yield dg.MaterializeResult(
            asset_key=result.asset_key,
            metadata=result.metadata,
            check_results=wanted,
            data_version=result.data_version,
            tags=result.tags,
        )
    else:
        yield result
