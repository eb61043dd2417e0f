"""The README's request as it stands there, and a sample of all kinds of malformed ones, against the real plane."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from financial_assets.resources import make_resources
from financial_assets.serving.manifests import EXPERIMENT_NAME
from financial_assets.settings import load_settings

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's line is a line of curl's")
def test_the_readmes_request_is_answered_when_copied(
    plane: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [block] = [text for text in (ROOT / "README.md").read_text().split("```")[1::2] if "curl" in text]
    (tmp_path / ".venv").symlink_to(sys.prefix)
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(plane.home))
    market = make_resources(load_settings())["market"]
    market.ingest()
    market.begin(market.whole_panel().sessions)
    done = subprocess.run(["bash", "-ec", block], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    head, _, answer = done.stdout.replace("\r", "").rpartition("\n\n")
    assert "HTTP/1.1 200 OK" in head
    assert re.search(r"^x-seldon-route: :(baseline|enhanced)-predictor-v1_1:$", head, re.M)
    shapes = {output["name"]: output["shape"] for output in json.loads(answer)["outputs"]}
    assert shapes == {
        "probability_up": [1, 1],
        "return_quantiles": [1, 5],
        "return_quantiles_5d": [1, 5],
        "excess_return": [1, 1],
    }


@pytest.mark.filterwarnings("ignore:Field inference.InferTensorContents:DeprecationWarning")
def test_no_kind_of_malformed_request_is_answered_or_kills(plane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small sample of ``benchmarks/malformed_requests.py``: every kind once or twice."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from malformed.cases import generate
    from malformed_requests import Sender

    def processes() -> list[tuple[str, int | None, int]]:
        return [(process.name, process.pid, process.restarts) for process in plane.target.status().processes]

    before = processes()
    cases = list(generate(7, 110, model="lightweight-predictor-v1", experiment=EXPERIMENT_NAME))
    with Sender(plane.endpoint) as sender:
        outcomes = [(case.kind, sender.send(case)) for case in cases]
    assert [(kind, outcome.problem) for kind, outcome in outcomes if outcome.problem] == []
    assert len({kind for kind, _ in outcomes}) > 60
    assert processes() == before
