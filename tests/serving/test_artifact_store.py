"""Artefacts in a volume and in a real S3 server: whole, verified, at an address of their content; else a refusal."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import pytest
from mlserver.settings import ModelSettings

from financial_assets.errors import ArtifactStoreError, SettingsError
from financial_assets.serving.artifact_store import ArtifactStore
from tests.serving.object_store import BUCKET, ObjectStore, object_store, spoiling_proxy

pytestmark = pytest.mark.integration

NAME = "baseline-predictor-v1"
PARTS = ["model-card.json", "model-settings.json", "model.onnx"]
CRASH = """
import os, sys
from pathlib import Path
from financial_assets.serving import artifact_store as module
import fsspec
written, opened = [], fsspec.filesystem
def crashing(write):
    def once(path, data):
        if written:
            os._exit(9)
        written.append(write(path, data))
    return once
def filesystem(*arguments, **options):
    client = opened(*arguments, **options)
    client.pipe_file = crashing(client.pipe_file)
    return client
fsspec.filesystem = filesystem
module.atomic_write_bytes = crashing(module.atomic_write_bytes)
module.ArtifactStore(sys.argv[1]).publish(Path(sys.argv[2]), sys.argv[3])
"""


@dataclass(frozen=True)
class Place:
    """A store, and its files by any other way."""

    uri: str
    files: Any
    storage_prefix: str

    def content(self, address: str) -> dict[str, bytes]:
        return {path.rsplit("/", 1)[-1]: self.files.cat_file(path) for path in self.files.find(address)}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("s3") / "log") as running:
        yield running


@pytest.fixture
def s3_environment(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture(params=["volume", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "volume":
        root = tmp_path / "mounted volume"
        return Place(f"file://{quote(str(root))}", fsspec.filesystem("file"), f"{root}/")
    store: ObjectStore = request.getfixturevalue("s3_environment")
    uri = f"s3://{BUCKET}/{tmp_path.name}"
    return Place(uri, store.client(), f"{uri}/")


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "copy.onnx").write_bytes(b"MLflow's own copy is not published")
    (folder / "model.onnx").write_bytes(os.urandom(300_000))
    (folder / "model-card.json").write_text("{}")
    return folder


def test_what_is_published_is_whole_and_a_server_can_load_it(place: Place, artefact: Path) -> None:
    address = ArtifactStore(place.uri).publish(artefact, NAME)
    assert address.startswith(f"{place.storage_prefix}{NAME}-")
    found = place.content(address)
    assert sorted(found) == PARTS
    assert found["model.onnx"] == (artefact / "model.onnx").read_bytes()
    settings = ModelSettings.model_validate(json.loads(found["model-settings.json"]))
    assert settings.implementation.__name__ == "FinancialOnnxRuntime"
    assert settings.parameters is not None
    assert settings.parameters.uri == "./model.onnx"


def test_the_same_again_writes_nothing_and_new_content_has_a_new_address(place: Place, artefact: Path) -> None:
    store = ArtifactStore(f"{place.uri}/")
    first = store.publish(artefact, NAME)
    written = {path: info.get("mtime") or info["LastModified"] for path, info in _details(place, first).items()}
    assert store.publish(artefact, NAME) == first
    assert {path: info.get("mtime") or info["LastModified"] for path, info in _details(place, first).items()} == written
    assert store.publish(artefact, "other-v1") != first
    (artefact / "model-card.json").write_text('{"changed": true}')
    assert store.publish(artefact, NAME) != first
    assert place.content(first)["model-card.json"] == b"{}"


def _details(place: Place, address: str) -> dict[str, dict[str, Any]]:
    place.files.invalidate_cache()
    return place.files.find(address, detail=True)


def test_a_crash_half_way_is_finished_by_the_next(place: Place, artefact: Path) -> None:
    arguments = [place.uri, str(artefact), NAME]
    crashed = subprocess.run([sys.executable, "-c", CRASH, *arguments], capture_output=True, text=True, timeout=120)
    assert crashed.returncode == 9, crashed.stderr
    assert [len(place.files.find(path)) for path in place.files.ls(place.storage_prefix, detail=False)] == [1]
    address = ArtifactStore(place.uri).publish(artefact, NAME)
    assert sorted(place.content(address)) == PARTS


def test_many_publish_the_same_at_once(place: Place, artefact: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(lambda _: ArtifactStore(place.uri).publish(artefact, NAME), range(8)))
    assert len(addresses) == 1
    found = place.content(addresses.pop())
    assert sorted(found) == PARTS  # no temporary file is left
    assert found["model.onnx"] == (artefact / "model.onnx").read_bytes()


def test_damage_in_the_store_is_mended(place: Place, artefact: Path) -> None:
    address = ArtifactStore(place.uri).publish(artefact, NAME)
    place.files.pipe_file(f"{address}/model.onnx", b"half of it")
    assert ArtifactStore(place.uri).publish(artefact, NAME) == address
    assert place.content(address)["model.onnx"] == (artefact / "model.onnx").read_bytes()


def test_a_folder_without_an_artefact_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ArtifactStoreError, match=r"holds no model\.onnx"):
        ArtifactStore(place.uri).publish(tmp_path, NAME)


def test_a_volume_that_is_not_there(tmp_path: Path, artefact: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ArtifactStoreError, match=r"ARTIFACT_STORE_URI: .*NotADirectoryError.*mount the volume there"):
        ArtifactStore(f"file://{tmp_path}/file/below").publish(artefact, NAME)


@pytest.mark.parametrize(
    ("checksums", "message"),
    [
        ("when_supported", "Expected checksum"),
        ("when_required", r"holds something else than was written \(model\.onnx\)"),
    ],
)
def test_an_upload_that_arrives_otherwise_is_noticed(
    s3_environment: ObjectStore, artefact: Path, monkeypatch: pytest.MonkeyPatch, checksums: str, message: str
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", checksums)  # many stores keep none

    def spoil(method: str, body: bytes) -> bytes:
        middle = len(body) // 2
        flipped = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body
        return flipped if method == "PUT" and len(body) > 100_000 else body

    with spoiling_proxy(s3_environment, spoil) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(ArtifactStoreError, match=rf"{message}.* between here and the store"):
            ArtifactStore(f"s3://{BUCKET}/spoilt").publish(artefact, NAME)


@pytest.mark.parametrize(
    ("uri", "absent", "status", "message"),
    [
        (f"s3://{BUCKET}/x", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], 0, "NoCredentials.*AWS_ACCESS_KEY_ID"),
        ("s3://nobodys-bucket/x", [], 0, "FileNotFoundError.*make the bucket"),
        (f"s3://{BUCKET}/x", [], 403, "PermissionError.*credentials that may read and write"),
    ],
)
def test_a_store_that_refuses(
    s3_environment: ObjectStore,
    artefact: Path,
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    absent: list[str],
    status: int,
    message: str,
) -> None:
    for name in absent:
        monkeypatch.delenv(name)
    with spoiling_proxy(s3_environment, lambda _, body: body, status) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(ArtifactStoreError, match=rf"ARTIFACT_STORE_URI: {uri}/{NAME}-\w+ cannot .*{message}"):
            ArtifactStore(uri).publish(artefact, NAME)


def test_a_store_that_nobody_answers_at(
    s3_environment: ObjectStore, artefact: Path, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ArtifactStoreError, match=r"up and reachable from here \(AWS_ENDPOINT_URL"):
        ArtifactStore(f"s3://{BUCKET}/x").publish(artefact, NAME)


def test_making_a_store_reaches_nothing_but_knows_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert ArtifactStore("s3://models").volume is None
    assert ArtifactStore("file:///mnt/models/").volume == Path("/mnt/models")
    with pytest.raises(SettingsError, match="ftp://models'; allowed: s3://, gs:// and file:///"):
        ArtifactStore("ftp://models")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for uri, package in (("s3://models", "financial-assets\\[cluster\\]"), ("gs://models", "gcsfs")):
        with pytest.raises(SettingsError, match=rf'ARTIFACT_STORE_URI: .*pip install "{package}"'):
            ArtifactStore(uri)
