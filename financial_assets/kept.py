"""Arrays that take seconds to compute and depend on code and arguments alone, kept on disk.

A file is named after everything that its content depends on, so that it is never out of date: another argument, another
version of the code or of a library is another file. It appears whole or not at all (``atomic``), and what a disk has
damaged since fails its checksum and is computed again. Processes that want the same array at once compute it twice and
write the same file.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from financial_assets.atomic import atomic_write_bytes
from financial_assets.disk import disk_errors

_CHECKSUM = hashlib.sha256().digest_size


def code_digest(modules: Iterable[ModuleType], libraries: Iterable[ModuleType]) -> str:
    """Names the source of ``modules`` and the versions of ``libraries``."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(Path(str(module.__file__)).read_bytes())
    for library in libraries:
        digest.update(f"\0{library.__name__} {library.__version__}".encode())
    return digest.hexdigest()


def kept(folder: Path, name: str, depends_on: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array ``name``, from ``folder`` or computed and put there; files of what it depended on before are removed.

    Parameters
    ----------
    folder
        Made when missing.
    name
        Says which array it is; letters, digits, dots and underscores.
    depends_on
        Everything else that decides the content, as text.
    compute
        Gives the array.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    path = folder / f"{name}-{hashlib.sha256(depends_on.encode()).hexdigest()[:32]}.npy"
    with disk_errors(path, "read"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # not there, or just removed by a process of other code
            content = b""
    array = _array(content)
    if array is not None:
        return array
    array = compute()
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    data = stream.getvalue()
    atomic_write_bytes(path, hashlib.sha256(data).digest() + data)
    for earlier in folder.glob(f"{name}-*.npy"):
        if earlier != path:
            earlier.unlink(missing_ok=True)
    return array


def _array(content: bytes) -> np.ndarray | None:
    """The array of a whole file; ``None`` for anything else."""
    checksum, data = content[:_CHECKSUM], content[_CHECKSUM:]
    if not data or hashlib.sha256(data).digest() != checksum:
        return None
    return np.load(io.BytesIO(data), allow_pickle=False)
