"""A new session from the store to the features, whatever it brings, leaves what a recomputation of everything gives."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from financial_assets.features.appending import append_features, next_sessions, save_features
from financial_assets.features.graph import FeatureGraph, compute_panel
from financial_assets.features.stored.reading import load_features
from financial_assets.market.panel import build_layout, build_panel
from financial_assets.market.panels.continued import continued
from financial_assets.market.panels.stored import Basis, StoredPanel
from financial_assets.market.store import PriceStore

MakePrices = Callable[..., pd.DataFrame]
GRAPH = FeatureGraph()


@settings(max_examples=8, deadline=None)
@given(
    days=st.lists(
        st.tuples(st.sampled_from(["quiet", "dividend", "split", "correct"]), st.integers(0, 19), st.integers(1, 3)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 1000),
)
@example(days=[("dividend", 3, 1), ("split", 5, 1), ("correct", 3, 1), ("quiet", 0, 2)], seed=0)
def test_from_the_store_to_the_features_a_day_is_the_whole_again(
    make_prices: MakePrices,
    days: list[tuple[str, int, int]],
    seed: int,
) -> None:
    names = tuple(f"T{row:02d}" for row in range(20))
    source = make_prices(names, count=175, seed=seed)
    sessions, end = source["date"].unique(), 160
    ohlc = ["open", "high", "low", "close", "adj_close"]
    with tempfile.TemporaryDirectory() as folder:
        store, path, features = PriceStore(Path(folder) / "prices"), Path(folder) / "p.npz", Path(folder) / "f.npz"
        store.upsert(source[source["date"] <= sessions[end]])

        def basis() -> Basis:
            changes = store.history()
            return Basis(len(changes), changes[-1].new_hash, (), {})

        current = StoredPanel(build_layout(store.read()), basis())
        current.save(path)
        save_features(features, compute_panel(current.panel, GRAPH), current.panel, current.lineage)
        for kind, row, step in days:
            end += step
            # Two tickers at once.
            mine = source["ticker"].isin([names[row], names[(row + 7) % 20]])
            if kind == "dividend":
                source.loc[mine & (source["date"] < sessions[end]), "adj_close"] *= 0.99
            elif kind == "split":
                source.loc[mine, ohlc] /= 3.0
                source.loc[mine, "volume"] *= 3.0
            elif kind == "correct":
                source.loc[mine & (source["date"] == sessions[end - 1 - step]), ohlc] *= 1.01
            store.upsert(source[source["date"].between(sessions[end - 14], sessions[end])])
            stored = StoredPanel.load(path)
            assert stored is not None
            longer = continued(stored, store, basis(), store.read, None, sessions[end])
            assert longer is not None
            longer.save(path)
            whole = compute_panel(build_panel(store.read()), GRAPH)
            appended = next_sessions(features, longer.panel, GRAPH, longer.lineage)
            assert appended is not None, kind
            assert appended.unstable == ()
            assert (appended.restated is not None) == (kind in ("dividend", "split"))
            append_features(features, appended)
            assert load_features(features).content_hash() == whole.content_hash()
