"""Keys and signatures in the format of minisign."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_assets.errors import SettingsError
from financial_assets.signing import Signer, make_key
from tests.passports.builders import load_verifier

VERIFIER = load_verifier()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_key(tmp_path / "keys" / "a.key")
    return tmp_path / "keys" / "a.key"


def check(line: str, minisig: str, public: str) -> str:
    return VERIFIER.check_signature({"signer": public}, line, line, minisig, public)


def test_a_key_is_drawn_once_and_kept_private(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    kept = path.read_bytes()
    with pytest.raises(SettingsError, match="exists already"):
        make_key(path)
    assert path.read_bytes() == kept
    assert make_key(path.with_name("b.key")).public != Signer.load(path).public


@settings(max_examples=4)  # each is four checks in plain Python
@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_what_is_signed_is_found_to_be_signed_and_nothing_else(text: str) -> None:
    signer = Signer.of(b"12345678", bytes(range(32)))
    minisig = signer.sign(text.encode(), "a comment")
    assert minisig == signer.sign(text.encode(), "a comment"), "the same key and message give the same bytes"
    assert check(text, minisig, signer.public).startswith("signed by")
    with pytest.raises(AssertionError, match="another record"):
        check(text + "x", minisig, signer.public)
    with pytest.raises(AssertionError, match="another comment"):
        check(text, minisig.replace("a comment", "b comment"), signer.public)


def test_nothing_shows_the_key(path: Path) -> None:
    signer, secret = Signer.load(path), path.read_text().split()[-1]
    assert base64.b64decode(secret)[62:94].hex() not in repr(signer)
    assert secret not in f"{signer!r}"
    assert repr(signer) == f"Signer(public={signer.public!r})"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"SIGNING_KEY=.*mode {mode:04o}.*chmod 600"):
        Signer.load(path)


def changed(place: int, value: bytes, text: str) -> str:
    comment, secret = text.splitlines()
    content = bytearray(base64.b64decode(secret))
    content[place : place + len(value)] = value
    return f"{comment}\n{base64.b64encode(content).decode()}\n"


DAMAGED = {
    "empty": (lambda _: "", "not a secret key of minisign"),
    "no base64": (lambda text: text.replace("RWQ", "%%%"), "not a secret key of minisign"),
    "cut off": (lambda text: text[:-40], "not a secret key of minisign"),
    "with a password": (lambda text: changed(2, b"Sc", text), "protected by a password"),
    "another half": (lambda text: changed(100, b"xyz", text), "damaged"),
    "another name": (lambda text: changed(54, b"xyz", text), "damaged"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_is_no_key_is_refused_without_showing_it(path: Path, what: str) -> None:
    damage, said = DAMAGED[what]
    text = path.read_text()
    path.write_text(damage(text))
    with pytest.raises(SettingsError, match=said) as error:
        Signer.load(path)
    assert text.split()[-1][40:80] not in str(error.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"SIGNING_KEY=.*none\.key cannot be read"):
        Signer.load(tmp_path / "none.key")
