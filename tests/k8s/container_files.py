"""Container files, read as far as our tests need them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ContainerFile:
    """The instructions of one file, in order: name and text, line continuations joined."""

    path: Path
    instructions: Sequence[tuple[str, str]]

    def of(self, name: str) -> list[str]:
        return [text for instruction, text in self.instructions if instruction == name]

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of the running container."""
        return dict(part.split("=", 1) for text in self.of("ENV") for part in shlex.split(text))

    @property
    def command(self) -> list[str]:
        return json.loads(self.of("CMD")[-1])

    def copies(self) -> list[tuple[list[str], str]]:
        """Sources and destination of each COPY."""
        return [(parts[:-1], parts[-1]) for parts in (text.split() for text in self.of("COPY"))]


def read(path: Path) -> ContainerFile:
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    parts = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return ContainerFile(path, [(name, " ".join(rest.split())) for name, rest in parts])


def is_sent(source: str) -> bool:
    """Whether ``.dockerignore`` leaves a file or folder in the build's context; the last pattern that fits decides."""
    sent = True
    for pattern in (ROOT / ".dockerignore").read_text().splitlines():
        if pattern.startswith("#"):
            continue
        wanted = pattern.removeprefix("!")
        if any(fnmatch(str(part), wanted) for part in (Path(source), *Path(source).parents)):
            sent = pattern.startswith("!")
    return sent
