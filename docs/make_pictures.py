"""Writes the pictures of README and manual: pages of Dagster's UI, and the report of the finished run.

``make pictures`` runs it. It starts Dagster's webserver on a free port, takes screenshots with headless Chromium,
reduces their colours and ends what it started. The state folder must hold a finished run (``make run``).
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import websockets
from PIL import Image

from financial_assets.settings import load_settings

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 150_000
READY_S = 300


def main() -> None:
    """Take all pictures."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no chromium: apt install chromium")
    report = load_settings().home / "reports" / "ab-evaluation.html"
    if not report.is_file():
        sys.exit(f"{report} does not exist: run make run first")
    IMAGES.mkdir(exist_ok=True)
    port = _free_port()
    command = [sys.executable, "-m", "dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/server_info", server)
        graph = f"{url}/asset-groups~{quote(_PIPELINE, safe='')}"
        _write("graph.png", asyncio.run(_shoot(browser, graph, 1900, 1150, _OPEN_GRAPH)), 1500, _GRAPH_ONLY)
        home = f"{url}/locations/financial_assets/jobs/full_pipeline"
        pages = {
            "check.png": (f"{url}/assets/raw_prices?view=checks&checkDetail=consistency", 0.73),
            "launchpad.png": (f"{home}/playground/setup?config={quote(_CONFIG)}", 0.77),
        }
        scores = sorted((load_settings().home / "session_scores").glob("*.parquet"))
        if scores:
            partition = f"view=partitions&partition={scores[-1].stem}"
            pages["session.png"] = (f"{url}/assets/sessions/evaluation?{partition}", 0.9)
        else:
            print("session.png stays as it is: launch a backfill of past_sessions for another one")
        for name, (page, height) in pages.items():
            _write(name, asyncio.run(_shoot(browser, page, 1500, 1000, draws_s=20)), 1100, (_NAVIGATION, 0), height)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    _write("report.png", asyncio.run(_shoot(browser, report.as_uri(), 1180, 1300)), 900)


_PIPELINE = " and ".join(f'not group:"{name}"' for name in ("search", "explanations", "walk_forward", "sessions"))
"""What the job full_pipeline makes."""

# Alt+E is Dagster's shortcut for "Expand all groups".
_OPEN_GRAPH = """(() => {
    const buttons = [...document.querySelectorAll('button, [role=button]')];
    buttons.find(button => /hide navigation/i.test(button.innerText))?.click();
    const key = {key: 'e', code: 'KeyE', keyCode: 69, altKey: true, bubbles: true};
    document.body.dispatchEvent(new KeyboardEvent('keydown', key));
    setTimeout(() => location.reload(), 5000);  // a fresh page fits the open groups in
})()"""
_CONFIG = """ops:
  models__baseline:
    config:
      seed: 7
      max_epochs: 3
  predictions:
    config:
      sessions: 60
"""
_NAVIGATION = 240 / 1500  # Dagster's menu on the left
_GRAPH_ONLY = (272 / 1400, 81 / 742)  # where the graph begins, right of and below Dagster's own panels


async def _shoot(browser: str, url: str, width: int, height: int, script: str = "", draws_s: float = 3) -> bytes:
    """PNG of a page as headless Chromium shows it after so many seconds, or after ``script`` has run in it."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
        process = subprocess.Popen(
            [browser, *flags, f"--user-data-dir={profile}", f"--window-size={width},{height}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            marker = Path(profile) / "DevToolsActivePort"
            _until(marker.is_file)
            port = marker.read_text().split()[0]
            pages = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
            socket_url = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            async with websockets.connect(socket_url, max_size=None) as connection:
                await asyncio.sleep(
                    20 if script else draws_s
                )  # a single-page application has no event that says "drawn"
                if script:
                    await _call(connection, "Runtime.evaluate", expression=script)
                    await asyncio.sleep(30)
                shot = await _call(connection, "Page.captureScreenshot", format="png")
            return base64.b64decode(shot["data"])
        finally:
            process.terminate()
            process.wait(30)


async def _call(connection: Any, method: str, **parameters: Any) -> dict[str, Any]:
    await connection.send(json.dumps({"id": 1, "method": method, "params": parameters}))
    while True:
        answer = json.loads(await connection.recv())
        if answer.get("id") == 1:
            return answer["result"]


def _write(name: str, png: bytes, width: int, corner: tuple[float, float] = (0, 0), bottom: float = 1.0) -> None:
    """Keep what lies right of and below the corner, and above the bottom; all as shares of the picture."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image = image.crop(
        (int(corner[0] * image.width), int(corner[1] * image.height), image.width, int(bottom * image.height))
    )
    image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    path = IMAGES / name
    image.quantize(64).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")
    if size > MOST_BYTES:
        sys.exit(f"{name} is larger than {MOST_BYTES:,} bytes: make it smaller")


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        if server.poll() is not None:
            sys.exit("Dagster's webserver ended; does `make ui` work?")
        try:
            return httpx.get(url).is_success
        except httpx.HTTPError:
            return False

    _until(answers)


def _until(condition: Any) -> None:
    end = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > end:
            sys.exit("nothing answers: giving up")
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
