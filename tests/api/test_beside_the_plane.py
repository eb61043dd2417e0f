"""The interface as a process of the local plane: started with it, started again when it dies, ended with it."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from click.testing import CliRunner

from financial_assets.api.local import NAME, beside_the_plane, running_url
from financial_assets.cli.main import main
from financial_assets.errors import SettingsError, TargetError
from financial_assets.serving.local import control
from financial_assets.serving.local.layout import ApiPort, Layout, Ports, read_ports
from financial_assets.serving.local.processes.process import SupervisorState
from financial_assets.settings import load_settings
from tests.waiting import FreeSeconds

PLANE = Ports(*range(1, 7))


@pytest.fixture
def own_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "home"
    shutil.copytree(home, folder)
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(folder))
    monkeypatch.setenv("API_PORT", "0")
    yield folder
    control.stop(folder)


def wait(until: Callable[[], object], limit_s: float = 120.0) -> None:
    waited = FreeSeconds()
    while not until():
        assert waited.read() < limit_s


def api_process(home: Path) -> psutil.Process | None:
    state = SupervisorState.read(Layout(home).supervisor_state)
    children = [] if state is None else [child for child in state.children if child.name == NAME]
    return children[0].identity.find() if children and children[0].identity else None


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/signals/AAA", timeout=60, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.integration
def test_it_lives_with_the_plane(own_home: Path) -> None:
    control.start(own_home, beside=beside_the_plane(load_settings()))
    url = running_url(own_home)
    assert url is not None
    assert answers(url)
    shown = CliRunner().invoke(main, ["status"]).output
    assert f"api: {url}" in shown
    first = api_process(own_home)
    assert first is not None
    first.kill()
    wait(lambda: (now := api_process(own_home)) is not None and now.pid != first.pid and answers(url))
    last = api_process(own_home)
    assert last is not None
    assert control.stop(own_home)
    assert not last.is_running() or last.status() == psutil.STATUS_ZOMBIE
    assert running_url(own_home) is None


@pytest.mark.integration
def test_a_plane_that_runs_without_it_is_left_alone(own_home: Path) -> None:
    from financial_assets.cli.serving import _api_url

    control.start(own_home)
    assert running_url(own_home) is None
    with pytest.raises(TargetError, match="serve --with-api"):
        _api_url(own_home)


def test_a_port_is_kept_and_is_none_of_the_planes(own_home: Path) -> None:
    layout = Layout(own_home)
    layout.root.mkdir()
    (spec,) = beside_the_plane(load_settings())(PLANE)
    port = read_ports(layout.api_port_file, ApiPort)
    assert port is not None
    assert spec.health_url == f"http://127.0.0.1:{port.api}/healthz"
    assert spec.command[-2:] == ("--port", str(port.api))
    beside_the_plane(load_settings())(PLANE)
    assert read_ports(layout.api_port_file, ApiPort) == port
    beside_the_plane(load_settings())(Ports(port.api, *range(2, 7)))
    assert read_ports(layout.api_port_file, ApiPort) != port


def test_a_port_that_is_asked_for_is_taken_or_refused(own_home: Path) -> None:
    layout = Layout(own_home)
    layout.root.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"API_PORT={port} is taken"):
            beside_the_plane(load_settings(api_port=port))(PLANE)
    beside_the_plane(load_settings(api_port=port))(PLANE)
    assert json.loads(layout.api_port_file.read_text()) == {"api": port}
