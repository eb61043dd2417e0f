"""A replay in a process of its own, to be killed: ``start_child(LOG_URL, SENT_FILE, PAUSE_S, [OUTAGE_FILE])``.

With a further file it is an open loop, and its gateway is away from the tenth request on, until it was asked twenty
times whether it is back. The file gets a line for each of these asks, and for each request that is sent after them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from financial_assets.errors import GatewayUnavailableError
from financial_assets.experiment.prediction_log.log import PredictionLog
from financial_assets.experiment.replay.open_loop import OpenLoop
from tests.experiment.builders import CUTOFF, FakeGateway, panel, play

ROOT = Path(__file__).parents[3]
_AWAY_AFTER, _ASKS = 10, 20


def start_child(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.experiment.replay.replay_child", *arguments]
    return subprocess.Popen(command, cwd=ROOT, **options)


class Noted(FakeGateway):
    """Writes what happens to files, line by line."""

    def __init__(self, sent_file: str, pause_s: float, outage_file: str | None) -> None:
        super().__init__()
        self.sent = open_to_append(sent_file)
        self.outage = None if outage_file is None else open_to_append(outage_file)
        self.pause_s, self.asks, self.seen = pause_s, 0, 0
        self.before, self.down = self.note, self.ask

    def note(self, _target: str, _bars: np.ndarray, request_id: str | None) -> None:
        with self.lock:
            self.seen += 1
            if self.outage is not None and self.seen > _AWAY_AFTER:
                if self.asks < _ASKS:
                    raise GatewayUnavailableError("connection refused", answered=False)
                os.write(self.outage, f"{request_id}\n".encode())
            if request_id is not None:
                os.write(self.sent, f"{request_id}\n".encode())
        time.sleep(self.pause_s)

    def ask(self, _model: str) -> str:
        if self.outage is None or self.asks == _ASKS:
            return ""
        self.asks += 1
        os.write(self.outage, b"asked\n")
        return "nobody there"


def open_to_append(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def main(url: str, sent_file: str, pause_s: float, outage_file: str | None) -> None:
    prices = panel(sessions=60, tickers=4)
    with PredictionLog(url) as log:
        epoch = log.current_epoch("ab-experiment")
        assert epoch is not None
        sessions, load = prices.sessions[prices.sessions > CUTOFF], None if outage_file is None else OpenLoop(400.0)
        play(log, epoch, prices, sessions, Noted(sent_file, pause_s, outage_file).connect, load=load)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
