"""Secrets of addresses: hidden wherever an address or a driver repeats them, and nothing else is."""

from __future__ import annotations

import logging
import traceback
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from financial_assets import redaction
from financial_assets.errors import TrackingError
from financial_assets.redaction import (
    RedactingFilter,
    conceal,
    harmless,
    has_password,
    redact,
    redact_address,
    reveal,
    without_user,
)


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_secrets", {})
    monkeypatch.setattr(redaction, "_concealed", {})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:hunter22@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql+psycopg2://u:hunt%40er@h/d", "postgresql+psycopg2://u:***@h/d"),
        ("http://user:hunter22@h/x", "http://***@h/x"),
        ("https://token@h/x", "https://***@h/x"),
        ("ftp://user:hun@ter/22@h/x", "ftp://***@h/x"),
        ("http://:hunter22@h", "http://***@h"),
        ("POSTGRESQL://U:HUNTER@H/D", "POSTGRESQL://U:***@H/D"),
        ("http://h/x?password=hunter22&a=1", "http://h/x?password=***&a=1"),
        ("postgresql://h/d?user=u&password=hun@ter", "postgresql://h/d?user=u&password=***"),
        ("https://h/x?X-Amz-Signature=ab12&y=2", "https://h/x?X-Amz-Signature=***&y=2"),
        ("http://h/x?pass=hunter22", "http://h/x?pass=***"),
        ("https://h/x?a=1&key=ab12", "https://h/x?a=1&key=***"),
        ("https://h/x?sslkey=/client.key", "https://h/x?sslkey=/client.key"),
        ("https://h/x?access_token=ab12", "https://h/x?access_token=***"),
        ("invalid dsn: host=h password=hunter22 user=u", "invalid dsn: host=h password=*** user=u"),
        ("Authorization: Basic dXNlcjpodW50ZXI=", "Authorization: Basic ***"),
    ],
)
def test_secrets_are_hidden_alone_and_in_a_sentence(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(f"cannot reach '{text}', refused") == f"cannot reach '{shown}', refused"
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u@h/d",
        "http://h:9000/path",
        "sqlite:////home/me@corp/mlflow.db",
        "file:///mnt/a@b",
        "git@host:team/repository.git",
        "ssh://git@host/repository.git",
        "s3://bucket/path?versionId=1",
        "mail me@example.org, see https://example.org",
        "an authorised author signs; the password is wrong",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == redact_address(text) == conceal(text) == text


@pytest.mark.parametrize(
    "value",
    [
        "u:openSame99@host",
        "http://u:openS ame99@h",
        "http://u:openS'ame99@h",
        "postgresql://h:5432/d?password=openS@ame99",
        "postgresql://u:openS?x=ame99@h/d",
        "postgresql://h/d?password=openS ame99",
    ],
)
def test_an_address_may_be_malformed(value: str) -> None:
    assert "openS" not in redact_address(value)
    assert "ame99" not in redact_address(value)


PIECES = st.sampled_from(
    [
        "http://",
        "u:hunter2@h",
        "?",
        "&",
        "=",
        "token",
        "password",
        " ",
        "AUTHORIZATION",
        "authorızation",
        ":",
        "Bearer",
        "ſ",
    ]
)


@example("authorızation:hunter2")  # the dotless letter is an i to a pattern that ignores case, and not to lower()
@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_pattern_is_left_out_where_it_would_find_something(text: str) -> None:
    expected = redaction._WORD.sub(lambda match: redaction._Address.of(match[0]).shown, text)
    for pattern in (redaction._PATH_QUERY, redaction._KEYWORD, redaction._HEADER):
        expected = pattern.sub(r"\g<key>***", expected)
    assert redact(text) == expected


SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=4, max_size=20)


@given(SECRETS, st.sampled_from(["postgresql", "http", "mysql+pymysql", "ftp"]))
def test_any_password_is_hidden_from_errors_in_all_its_forms(password: str, scheme: str) -> None:
    """Encoded in the address; decoded, or encoded otherwise, in what a driver says."""
    secret = f"Zq7{password}7qZ"  # no word of the sentence
    url = f"{scheme}://someone:{quote(secret, safe='')}@h:1/d"
    shown = conceal(url)
    assert reveal(shown) == url
    assert has_password(url)
    assert without_user(url) == (f"{scheme}://h:1/d", f"someone:{secret}")
    said = str(TrackingError(f"{url}: the driver says {secret}, {quote(secret)} and {secret!r}"))
    for form in (secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1]):
        assert form not in said
    assert "the driver says" in said


def test_a_cause_is_kept_unless_it_holds_a_secret() -> None:
    conceal("postgresql://u:correcthorse@h/d")
    sound, leaking = OSError("connection refused"), OSError("could not translate host name correcthorse")
    assert harmless(sound) is sound
    assert harmless(leaking) is None
    sound.__context__ = leaking
    assert harmless(sound) is None
    with pytest.raises(TrackingError) as caught:
        raise TrackingError("cannot be reached") from harmless(leaking)
    assert "correcthorse" not in "".join(traceback.format_exception(caught.value))


def test_records_of_libraries_are_cleaned(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(RedactingFilter())
    try:
        raise OSError("http://u:batterystaple@h refused")
    except OSError:
        logging.getLogger("library").exception("at %s", "http://u:batterystaple@h")
    assert "batterystaple" not in caplog.text
    assert "at http://***@h" in caplog.text


def test_a_secret_that_is_a_word_does_not_hide_the_name_of_another() -> None:
    assert conceal("https://token@h/x") == "https://***@h/x"
    assert redact("the token was refused") == "the *** was refused"
    assert redact("https://h/x?access_token=ab12&token=cd34") == "https://h/x?access_token=***&token=***"
