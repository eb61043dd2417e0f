"""Each common form of price files, written as its vendor does, gives the true bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from benchmarks.vendor_files.forms import FORMS, SampleForm, true_prices
from financial_assets.market.sources.files import FilePrices

PRICES = true_prices(np.random.default_rng(7))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_gives_the_true_bars(tmp_path: Path, form: SampleForm) -> None:
    place = form.write(PRICES, tmp_path)
    fetched = FilePrices(str(place), form.rules).fetch(["AAPL", "MSFT"])
    assert fetched.failures == {}
    assert_frame_equal(fetched.prices, form.expected(PRICES), check_exact=False, rtol=1e-12)
