"""A replay in a process of its own, to be killed: ``python replay_child.py LOG_URL SENT_FILE PAUSE_S``."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
from experiment_doubles import CUTOFF, LOOKBACK, FakeGateway, panel

from financial_assets.experiment.log import PredictionLog
from financial_assets.experiment.replay import replay


def main(url: str, sent_file: str, pause_s: float) -> None:
    sent = os.open(sent_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(target: str, bars: np.ndarray, request_id: str | None) -> None:
        if request_id is not None:
            os.write(sent, f"{request_id}\n".encode())
        time.sleep(pause_s)

    prices = panel(sessions=60, tickers=4)
    with PredictionLog(url) as log:
        epoch = log.current_epoch("ab-experiment")
        assert epoch is not None
        replay(
            log=log,
            epoch=epoch,
            panel=prices,
            sessions=prices.sessions[prices.sessions > CUTOFF],
            connect=FakeGateway(before=note).connect,
            lookback=LOOKBACK,
            progress=False,
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
