"""Where settings come from: the environment before ``.env`` before what the state folder remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from financial_assets.errors import SettingsError
from financial_assets.installation import MarketState, open_installation
from financial_assets.settings import load_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", "home")
    return tmp_path / "home"


def market() -> MarketState:
    return open_installation(load_settings()).market


def fill(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Store prices with these variables set; they are not set afterwards."""
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        market().ingest()


SIMULATED = {"PRICE_SOURCE": "simulated", "TICKERS": "BBB,AAA", "SIMULATED_SESSIONS": "400", "SEED": "7"}


def test_a_filled_folder_needs_no_variable_repeated(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, **SIMULATED, SEQUENCE_LENGTH="12", INGESTION_END_DATE="2019-12-31", VARIANTS="baseline,linear")
    settings = load_settings()
    assert (settings.price_source, settings.tickers, settings.seed) == ("simulated", ("BBB", "AAA"), 7)
    assert (settings.simulated_sessions, settings.sequence_length) == (400, 12)
    assert settings.variants == ("baseline", "linear")
    assert f"{settings.ingestion_end_date}" == "2019-12-31"
    assert set(market().prices()["ticker"]) == {"AAA", "BBB"}


def test_dagster_sees_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from financial_assets.resources import make_resources

    fill(monkeypatch, **SIMULATED)
    resource = make_resources(load_settings())["market"]
    assert (resource.price_source, resource.tickers, resource.seed) == ("simulated", ["BBB", "AAA"], 7)
    assert not resource.prices().empty


def test_files_and_policy_are_remembered_by_absolute_path(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = market().source().fetch(("AAPL",), None, None).prices
    bars.to_csv(tmp_path / "bars.csv", index=False)
    fill(monkeypatch, PRICE_SOURCE="files", PRICE_FILES="bars.csv", TICKERS="AAPL", ROLLOUT_POLICY="policy.yaml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("FINANCIAL_ASSETS_HOME", str(home))
    settings = load_settings()
    assert settings.price_files == str(tmp_path / "bars.csv")
    assert settings.rollout_policy == tmp_path / "policy.yaml"
    assert not market().prices().empty


def test_the_environment_wins_and_is_remembered_by_the_next_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, **SIMULATED)
    fill(monkeypatch, TICKERS="AAA,CCC", EVALUATION_SHARE="0.4")
    settings = load_settings()
    assert (settings.tickers, settings.evaluation_share, settings.seed) == (("AAA", "CCC"), 0.4, 7)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PRICE_SOURCE": "sample"}, "PRICE_SOURCE=simulated.*PRICE_SOURCE=sample"),
        ({"SIMULATED_SESSIONS": "500"}, "SIMULATED_SESSIONS=400.*SIMULATED_SESSIONS=500"),
        ({"SEED": "8"}, "SEED=7.*SEED=8"),
    ],
)
def test_an_environment_that_contradicts_the_folder_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    fill(monkeypatch, **SIMULATED)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"FINANCIAL_ASSETS_HOME: .*{named}"):
        market().store()


def test_another_source_takes_nothing_from_the_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, **SIMULATED)
    monkeypatch.setenv("PRICE_SOURCE", "sample")
    assert (load_settings().tickers, load_settings().seed) == (("AAPL", "MSFT"), 42)


def test_an_empty_variable_clears_an_optional_setting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, **SIMULATED, INGESTION_END_DATE="2019-12-31")
    monkeypatch.setenv("INGESTION_END_DATE", "")
    monkeypatch.setenv("TICKERS", "")
    settings = load_settings()
    assert settings.ingestion_end_date is None
    assert settings.tickers == ("BBB", "AAA"), "a required setting cannot be cleared"


def test_a_folder_of_an_earlier_version_gives_its_market(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, **SIMULATED)
    marker = json.loads((home / "market.json").read_text())
    del marker["settings"]
    (home / "market.json").write_text(json.dumps(marker))
    settings = load_settings()
    assert (settings.price_source, settings.seed, settings.simulated_sessions) == ("simulated", 7, 400)
    assert settings.tickers == ("AAPL", "MSFT"), "earlier versions did not record them"
    market().store()


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"settings": {"TICKERS": "X"}}', '{"PRICE_SOURCE": "sample", "settings": 3}']
)
def test_a_damaged_marker_is_left_to_the_price_store(home: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    fill(monkeypatch, TICKERS="AAPL")
    (home / "market.json").write_text(damage)
    assert load_settings().tickers == ("AAPL", "MSFT")


def test_nothing_is_remembered_without_state(home: Path) -> None:
    home.mkdir()
    (home / "market.json").write_text('{"PRICE_SOURCE": "yahoo"}')
    assert load_settings().price_source == "sample"


def test_the_file_is_read_below_the_environment(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, **SIMULATED)
    (tmp_path / ".env").write_text("# mine\nTICKERS=CCC\nexport COST_BPS='3'\nAWS_REGION=x\nSEQUENCE_LENGTH=\n")
    monkeypatch.setenv("COST_BPS", "4")
    settings = load_settings()
    assert (settings.tickers, settings.cost_bps, settings.price_source) == (("CCC",), 4.0, "simulated")
    assert load_settings(tickers=("DDD",)).tickers == ("DDD",)


def test_the_file_may_name_the_state_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(monkeypatch, **SIMULATED)
    monkeypatch.delenv("FINANCIAL_ASSETS_HOME")
    (tmp_path / ".env").write_text("FINANCIAL_ASSETS_HOME=home\n")
    assert (load_settings().home, load_settings().seed) == (home, 7)


def test_problems_in_the_file_name_it_and_hide_passwords(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "TICKER=AAPL\nSEED=abc\nPREDICTION_LOG_URL=mysql://user:open-sesame@host/db\nMLFLOW_TRACKING_URL=x\n"
    )
    monkeypatch.setenv("DEVICE", "tpu")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert lines[0].startswith("MLFLOW_TRACKING_URL: is not a setting; did you mean MLFLOW_TRACKING_URI?")
    assert lines[1] == "TICKER: is not a setting; did you mean TICKERS? Rename it in .env or remove the line"
    assert "SEED: got 'abc' in .env; must be an integer (Seed of every random draw.)" in lines
    assert any(line.startswith("DEVICE: got 'tpu'; must be 'auto', 'cpu', 'cuda' or 'mps'") for line in lines)
    assert "PREDICTION_LOG_URL: got 'mysql://" in str(caught.value)
    assert "open-sesame" not in str(caught.value)


def test_a_file_that_is_not_text_is_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"\.env cannot be read .*correct or remove it"):
        load_settings()


def test_a_folder_of_that_name_is_ignored(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load_settings().price_source == "sample"


def test_messages_need_no_knowledge_of_the_libraries(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE_SOURCE", "csv")
    with pytest.raises(SettingsError, match="PRICE_SOURCE: got 'csv'; must be 'sample', 'yahoo', 'files'") as caught:
        load_settings()
    assert "`" not in str(caught.value)
    assert "Input" not in str(caught.value)
