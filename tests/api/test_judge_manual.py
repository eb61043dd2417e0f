"""The manual's commands, as a reader types them, against a server that listens."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from financial_assets.api.app import create_app
from financial_assets.installation import open_installation
from financial_assets.settings import load_settings
from tests.waiting import wait

PAGE = Path(__file__).parents[2] / "docs" / "judge.md"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = create_app(open_installation(load_settings(financial_assets_home=tmp_path_factory.mktemp("judge"))))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait("the server listens", lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def blocks() -> list[str]:
    """Blocks of commands that ask the server."""
    found = re.split(r"^```.*$", PAGE.read_text(), flags=re.MULTILINE)[1::2]
    return [block for block in found if "curl" in block]


def answers(url: str, block: str) -> list[object]:
    """What each command of a block answers; an error is an answer, too."""
    found: list[object] = []
    for command in re.findall(r"^curl .*?(?=^curl |\Z)", block, re.DOTALL | re.MULTILINE):
        done = subprocess.run(
            ["bash", "-ec", f"set -o pipefail; API={url}\n{command}"], capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    return found


def test_every_command_of_the_page_is_answered(url: str) -> None:
    register, judge, ask, flagger, kayenta = blocks()
    (plan,) = answers(url, register)
    assert isinstance(plan, dict)
    assert plan["name"] == "checkout-v42"
    past, judged = answers(url, judge)
    assert isinstance(past, dict)
    assert isinstance(judged, dict)
    assert (judged["verdict"], judged["action"], judged["units"]) == ("hold", "hold", 2)
    assert answers(url, ask)[0] == judged
    (gate,) = answers(url, flagger)
    assert isinstance(gate, dict)
    assert gate["plan"] == "checkout-v42"
    configs, execution, result = answers(url, kayenta)
    assert configs == [{"id": name, "name": name} for name in ("checkout-v42", "try-it")]
    assert execution == {"canaryExecutionId": "checkout-v42~82"}
    assert isinstance(result, dict)
    assert result["result"]["judgeResult"]["score"]["score"] == 82


def test_a_command_that_is_wrong_is_seen(url: str) -> None:
    broken = blocks()[0].replace('"daily"', '"dayly"')
    (answer,) = answers(url, broken)
    assert isinstance(answer, dict)
    assert "error" in answer


def test_the_fields_of_the_answer_are_those_of_the_page(url: str) -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE.read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    (_, judged) = answers(url, blocks()[1])
    assert isinstance(judged, dict)
    assert named - set(judged) == {"day", "incident", "request", "rollout", "rollback"}
