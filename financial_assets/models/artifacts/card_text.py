"""The model card for people: Markdown with tables and pictures, made from the card's JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from financial_assets.atomic import atomic_write_bytes
from financial_assets.folders import make_folder
from financial_assets.models.artifacts.tracked import shown_settings
from financial_assets.models.plots import plot_coverage, plot_history, plot_reliability
from financial_assets.models.training import Training

PICTURES = {
    "Loss by epoch": "loss.png",
    "Reliability of the probability": "reliability.png",
    "Coverage of the quantiles": "coverage.png",
}
"""Titles of the pictures, and their files."""
_BLOCKS = {
    "fit": "fit: weights are learned from it",
    "stop": "stop: says when to stop",
    "calibrate": "held out: scored below, then used to calibrate",
}
_SHARES = ("accuracy", "coverage")
"""Scores that are shares, by the beginning of their names."""


def write_pictures(training: Training, folder: Path) -> dict[str, Path]:
    """Draw the pictures of a card into ``folder``; their paths by title."""
    make_folder(folder)
    drawn = {
        "Loss by epoch": plot_history(training.history, training.best_epoch),
        "Reliability of the probability": plot_reliability(training.held_out, training.platt),
        "Coverage of the quantiles": plot_coverage(training.held_out),
    }
    paths = {title: folder / PICTURES[title] for title in drawn}
    for title, png in drawn.items():
        atomic_write_bytes(paths[title], png)
    return paths


def card_summary(card: Mapping[str, Any]) -> str:
    """What a card says, in the few lines that a list of models has room for."""
    held_out = card["held_out"]
    scores = held_out["scores"]
    accuracy = _score("accuracy", scores["accuracy"])
    return (
        f"**{card['variant']}**, trained on sessions up to {card['data_cutoff']} ({_universe(card)}).\n\n"
        f"Held-out accuracy {accuracy} on {scores['accuracy']['days']} days; always naming the commoner direction "
        f"gives {held_out['majority_rate']:.1%}. Best epoch {card['training']['best_epoch']} of "
        f"{len(card['training']['history'])}."
    )


def card_text(card: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The whole card as Markdown.

    Parameters
    ----------
    card
        As ``model_card`` makes it; cards of earlier releases lack some of it.
    pictures
        Where each picture is, by its title: a path relative to the card, or its data as an address.
    """
    interface, parity = card["interface"], card.get("parity", {})
    targets = interface.get("targets", {})
    lines = [
        f"# {card['model']}: {card['variant']}",
        "",
        card_summary(card),
        "",
        "## Purpose",
        "",
        "One ONNX graph from raw daily bars to calibrated answers for one stock: the direction of the next session, "
        "and quantiles of the log return, among them the value at risk.",
        "",
        *_table(
            ["answer", "shape", "of what"],
            ([f"`{name}`", _shape(shape), targets.get(name, "")] for name, shape in interface["outputs"].items()),
        ),
        "",
        f"Input {_shapes(interface['input'])}. Quantile levels: "
        f"{', '.join(f'{level:.0%}' for level in interface['quantile_levels'])}. At least {card['bars_needed']} "
        "sessions of bars must be known.",
        "",
        "## Data",
        "",
        f"Prices: {card.get('price_source', 'source not recorded')}; {_universe(card)}; nothing after "
        f"**{card['data_cutoff']}** was used. Digest of the prices: `{card['data_hash']}`.",
        "",
        *_table(
            ["block", "first session", "last session", "windows"],
            (
                [_BLOCKS.get(name, name), b["first"], b["last"], f"{b['windows']:,}"]
                for name, b in card["blocks"].items()
            ),
        ),
        "",
        "## Training",
        "",
        f"Seed {card['seed']}, on {card['training']['device']} in {card['training']['seconds']:.0f} s; "
        f"{card['parameters']:,} parameters over {len(card['features'])} features, {card['sequence_length']} sessions "
        f"at a time. Code `{card['code_version']}`, fingerprint `{card['fingerprint']}`.",
        "",
        *_table(
            ["setting", "value"],
            ([name, str(value)] for name, value in shown_settings(card["hyperparameters"]).items()),
        ),
        "",
        *_picture(pictures, "Loss by epoch"),
        "## Scores on the held-out block",
        "",
        "Of the answers before calibration, on sessions that the network has not seen. Intervals are 95 %, by whole "
        "days: stocks move together, so a day is one observation.",
        "",
        *_table(
            ["score", "estimate", "95 % interval", "days"],
            (_row(name, score) for name, score in card["held_out"]["scores"].items()),
        ),
        "",
        *_picture(pictures, "Reliability of the probability"),
        *_picture(pictures, "Coverage of the quantiles"),
        "## Proof that the file is the model",
        "",
        *_table(["compared", "largest difference"], ([name, f"{value:.3g}"] for name, value in _numbers(parity))),
        "",
        f"SHA-256 of the file: `{card['onnx_sha256']}`.",
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in card["limits"]),
    ]
    return "\n".join(lines) + "\n"


def _shapes(named: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}` {_shape(shape)}" for name, shape in named.items())


def _shape(sizes: Sequence[Any]) -> str:
    return " x ".join(map(str, sizes))


def _universe(card: Mapping[str, Any]) -> str:
    tickers = card["tickers"]
    shown = ", ".join(tickers[:8]) + (", ..." if len(tickers) > 8 else "")
    return f"{len(tickers)} tickers: {shown}" if len(tickers) != 1 else f"one ticker: {shown}"


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, int | float):
            yield name.replace("_", " "), float(value)


def _row(name: str, score: Mapping[str, Any]) -> list[str]:
    estimate, low, high = (_figure(name, score[part]) for part in ("estimate", "low", "high"))
    return [name.replace("_", " "), estimate, f"{low} to {high}", str(score["days"])]


def _score(name: str, score: Mapping[str, Any]) -> str:
    estimate, low, high = (_figure(name, score[part]) for part in ("estimate", "low", "high"))
    return f"{estimate} (95 % interval {low} to {high})"


def _figure(name: str, value: float) -> str:
    return f"{value:.1%}" if name.startswith(_SHARES) else f"{value:.4f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    head = "| " + " | ".join(header) + " |"
    return [head, "|" + " --- |" * len(header), *("| " + " | ".join(row) + " |" for row in rows)]


def _picture(pictures: Mapping[str, str], title: str) -> list[str]:
    return [f"![{title}]({pictures[title]})", ""] if title in pictures else []
