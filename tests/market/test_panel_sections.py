"""Arrays in parts along the sessions, and those that stay in the file of a panel."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from financial_assets.market.panels.archive import Whole, read_parts, write_tail, write_whole
from financial_assets.market.panels.sections import Sections


def values(sessions: int) -> np.ndarray:
    return np.random.default_rng(sessions).normal(size=(3, 2, sessions)).astype(np.float32)


@pytest.mark.parametrize("lengths", [(5,), (4, 1), (2, 0, 3), (1, 2, 2)])
def test_any_span_is_that_of_the_joined_array(lengths: tuple[int, ...]) -> None:
    parts = [values(length) for length in lengths]
    whole = np.concatenate(parts, axis=-1)
    for first in range(6):
        for end in range(first, 6):
            cut = Sections(parts).between(first, end)
            assert cut.shape == whole[..., first:end].shape
            assert np.array_equal(cut.take(slice(1, 3), 1), whole[1:3, 1, first:end])
            assert np.array_equal(cut.of_row(2), whole[2, :, first:end])
            assert np.array_equal(cut.joined(), whole[..., first:end])
            assert cut.joined().flags.c_contiguous
    assert np.array_equal(Sections(parts[:1]).with_next(parts[-1]).joined(), np.concatenate([parts[0], parts[-1]], -1))


@pytest.mark.parametrize("lengths", [(5,), (4, 1), (2, 0, 3)])
def test_rows_and_channels_are_replaced_in_place(lengths: tuple[int, ...]) -> None:
    parts, rows = [values(length) for length in lengths], np.array([2, 0])
    whole, sections = np.concatenate(parts, axis=-1), Sections(parts)
    new = np.arange(20, dtype=np.float32).reshape(2, 2, 5)
    sections.set_rows(rows, new)
    sections.set_channel(1, np.array([0, 4]), np.array([7, 8], dtype=np.float32))
    whole[rows] = new
    whole[:, 1, [0, 4]] = [7, 8]
    assert np.array_equal(sections.of_row(slice(1, 3)), whole[1:3])
    assert np.array_equal(sections.joined(), whole)


def test_they_are_joined_once() -> None:
    sections = Sections([values(2), values(3)])
    assert sections.joined() is sections.joined()


def written(path: Path) -> dict[str, np.ndarray]:
    arrays = {"values": values(50), "adjusted": np.arange(150.0).reshape(3, 50), "days": np.arange(50)}
    write_whole(path, "name", arrays)
    return arrays


def test_an_array_left_in_the_file_is_the_one_written(tmp_path: Path) -> None:
    arrays = written(tmp_path / "panel.npz")
    parts, whole = read_parts(tmp_path / "panel.npz", tuple(arrays), mapped=("values", "adjusted"))
    assert whole == Whole("name", 50)
    for name, array in arrays.items():
        (held,) = parts[name]
        assert held.dtype == array.dtype
        assert np.array_equal(held, array)
    content = (tmp_path / "panel.npz").read_bytes()
    parts["values"][0][1] = 7.0
    assert (tmp_path / "panel.npz").read_bytes() == content, "only this process sees what it writes"
    joined = Sections(parts["values"]).joined()
    assert joined.flags.writeable
    assert joined.flags.aligned


def test_a_tail_has_the_last_sessions_and_restated_rows(tmp_path: Path) -> None:
    path, arrays = tmp_path / "panel.npz", written(tmp_path / "panel.npz")
    tail = {"values": values(2) * 2, "adjusted": np.full((3, 2), 5.0), "days": np.array([48, 49])}
    rows, restated = np.array([1]), {"values": np.full((1, 2, 48), 3, dtype=np.float32)}
    write_tail(path, "name", tail, 48, rows, restated)
    expected = np.concatenate([arrays["values"][..., :48], tail["values"]], axis=-1)
    expected[1, :, :48] = 3.0
    for mapped in ((), ("values", "adjusted")):
        parts, whole = read_parts(path, tuple(arrays), mapped=mapped)
        assert whole == Whole("name", 48, (1,))
        assert np.array_equal(np.concatenate(parts["values"], axis=-1), expected)
        assert np.array_equal(parts["adjusted"][0], arrays["adjusted"][:, :48])
    write_tail(path, "another", tail, 48, rows, restated)  # a whole written anew, and a death before its tail went
    assert read_parts(path, tuple(arrays))[1] == Whole("name", 50)


def test_one_wrong_bit_of_it_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "panel.npz"
    arrays = written(path)
    content = bytearray(path.read_bytes())
    content[content.index(arrays["values"].tobytes()) + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="checksum of values"):
        read_parts(path, tuple(arrays), mapped=("values",))


def test_those_of_an_earlier_version_are_known_by_their_crc(tmp_path: Path) -> None:
    path, arrays = tmp_path / "panel.npz", written(tmp_path / "other.npz")
    np.savez(path, **arrays, whole=np.array("name"))
    parts, _ = read_parts(path, tuple(arrays), mapped=("values",))
    assert np.array_equal(parts["values"][0], arrays["values"])
    content = bytearray(path.read_bytes())
    content[content.index(arrays["values"].tobytes()) + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="checksum of values"):
        read_parts(path, tuple(arrays), mapped=("values",))


def test_compressed_ones_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "panel.npz", values=values(50), days=np.arange(50))
    with pytest.raises(ValueError, match="values is compressed"):
        read_parts(tmp_path / "panel.npz", ("values", "days"), mapped=("values",))
