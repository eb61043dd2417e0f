"""A program compiled by the machine's C++ compiler, and kept on disk for later processes.

Compiled features differ from eager ones by rounding (logarithms and square roots), so models are trained on eager ones;
compiled ones are for studies of large universes. Each value is computed alike wherever its bar stands.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from financial_assets.atomic import atomic_path
from financial_assets.errors import FeatureError
from financial_assets.features.graph import FeatureGraph
from financial_assets.features.panels.loops import write_loops

FLAGS = ("-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
"""No product is fused with a sum: differences that are exactly 0 stay so. Errors of single operations are not asked."""

_COMPILERS = ("c++", "g++")


class NativeProgram:
    """Features of many tickers at once, by compiled loops.

    Parameters
    ----------
    graph
        The features.
    cache
        Folder of compiled programs. A file is named by what it was made from: the program, the compiler and what it
        says of the processor. Processes may share the folder.

    Raises
    ------
    FeatureError
        If there is no compiler, or it fails.
    """

    def __init__(self, graph: FeatureGraph, cache: Path) -> None:
        self.graph = graph
        source, self._size = write_loops(graph.program(), graph.bounds)
        self._function = ctypes.CDLL(str(_compiled(source, cache))).features
        self._function.restype = None

    def run(self, bars: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Features ``[ticker, feature, session]`` of float32 bars ``[ticker, channel, session]``.

        The first session is that of the first ``lookback`` bars' last. Where fewer are known of a ticker, the values
        mean nothing.

        Parameters
        ----------
        bars
            Prices in the channels of the graph.
        out
            Where to write: float32, contiguous. A new array by default.

        Raises
        ------
        FeatureError
            If the bars do not have the graph's channels or fewer sessions than its lookback, or ``out`` is not fit.
        """
        tickers, channels, sessions = bars.shape
        if channels != len(self.graph.channels) or sessions < self.graph.lookback:
            raise FeatureError(
                f"bars are [ticker, {len(self.graph.channels)} channels, {self.graph.lookback} sessions or more], "
                f"not {bars.shape}"
            )
        bars = np.ascontiguousarray(bars, dtype=np.float32)
        known = sessions - self.graph.lookback + 1
        shape = (tickers, len(self.graph.names), known)
        out = np.empty(shape, dtype=np.float32) if out is None else out
        if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise FeatureError(f"features are written to contiguous float32 {shape}, not {out.dtype} {out.shape}")
        memory = np.zeros(self._size, dtype=np.float32)
        sizes = map(ctypes.c_int64, (tickers, channels, sessions, known))
        self._function(_pointer(bars), _pointer(out), *sizes, _pointer(memory))
        return out


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _compiled(source: str, cache: Path) -> Path:
    """The shared library of ``source``, compiled unless the cache has it."""
    compiler = _compiler()
    # Its macros tell the compiler's version and what the processor can do.
    macros = _run([compiler, *FLAGS, "-dM", "-E", "-x", "c++", os.devnull])
    digest = hashlib.sha256("\0".join((compiler, *FLAGS, macros, source)).encode()).hexdigest()
    library = cache / f"features-{digest[:32]}.so"
    if not library.exists():
        # Processes that compile the same at a time write files of their own; the last to be renamed stays.
        with atomic_path(library) as temporary:
            _run([compiler, *FLAGS, "-shared", "-fPIC", "-o", str(temporary), "-x", "c++", "-"], source)
    return library


def _compiler() -> str:
    chosen = os.environ.get("CXX")
    found = next((path for name in ((chosen,) if chosen else _COMPILERS) if (path := shutil.which(name))), None)
    if found is None:
        raise FeatureError(
            f"no C++ compiler: {chosen or ' or '.join(_COMPILERS)} is not on PATH. Install one (g++) or name it by "
            "CXX; compute_panel gives these features without one"
        )
    return found


def _run(command: list[str], text: str = "") -> str:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise FeatureError(f"{command[0]} failed: {error.stderr.strip()[-2000:]}") from error
