"""Each common form of price files, written as its vendor does, gives the true bars."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from financial_assets.market.sources.files import FilePrices

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from vendor_files.forms import FORMS, SampleForm, true_prices

PRICES = true_prices(np.random.default_rng(7))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_gives_the_true_bars(tmp_path: Path, form: SampleForm) -> None:
    place = form.write(PRICES, tmp_path)
    fetched = FilePrices(str(place), form.rules).fetch(["AAPL", "MSFT"])
    assert fetched.failures == {}
    assert_frame_equal(fetched.prices, form.expected(PRICES), check_exact=False, rtol=1e-12)
