"""One folder of a commit as texts, and a new commit with other texts: no working tree, nothing is checked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from financial_assets.errors import TargetError
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.gitops.git import GitError, run_git

_FOLDER_MODE, _FILE_MODES = "040000", ("100644", "100755")
_IDENTITY = {
    **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "financial-assets"),
    **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "financial-assets@localhost"),
}
_READ = (".yaml", ".yml", "Kustomization")


@dataclass(frozen=True)
class Entry:
    """One name in a folder; ``text`` is ``None`` if it is not a YAML file in UTF-8 (a symbolic link, a folder ...)."""

    mode: str
    text: str | None


Folder = Mapping[str, Entry]


@dataclass(frozen=True)
class TreeSnapshot:
    """A folder as of one commit."""

    commit: str
    folder: Folder


@dataclass(frozen=True)
class Edit:
    """New texts by file name (``None``: remove the file), and the message that says why."""

    files: Mapping[str, str | None]
    message: str


def read_folder(repository: Path, commit: str, path: str, deadline: Deadline) -> TreeSnapshot:
    """The folder ``path`` of a commit; empty if it does not exist.

    Raises
    ------
    TargetError
        Something on the way to it is not a folder.
    GitError
        The repository is damaged.
    """
    parts = path.split("/") if path else []
    parents = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    if parents:
        modes = {name: mode for mode, _, name in _tree(repository, deadline, commit, "--", *parents)}
        for parent in parents:
            if modes.get(parent, _FOLDER_MODE) != _FOLDER_MODE:
                raise TargetError(
                    f"GITOPS_PATH: {parent} is not a folder in the repository but a file, a symbolic link or a "
                    "submodule; name another path"
                )
        if path not in modes:
            return TreeSnapshot(commit, {})
    entries = _tree(repository, deadline, f"{commit}:{path}")
    wanted = [oid for mode, oid, name in entries if mode in _FILE_MODES and name.endswith(_READ)]
    texts = _texts(repository, wanted, deadline)
    return TreeSnapshot(
        commit,
        {name: Entry(mode, texts.get(oid) if name.endswith(_READ) else None) for mode, oid, name in entries},
    )


def write_commit(repository: Path, parent: str, path: str, edit: Edit, deadline: Deadline) -> str:
    """A commit on top of ``parent`` that differs from it in the given files of ``path`` only.

    Raises
    ------
    GitError
        The repository is damaged.
    """

    def git(*arguments: str, stdin: str = "", variables: Mapping[str, str] | None = None) -> str:
        output = run_git(list(arguments), deadline, folder=repository, stdin=stdin.encode(), variables=variables)
        return output.decode().strip()

    # A private index instead of a working tree: `update-index --index-info` takes objects straight from the database,
    # and an index that a killed process left behind says nothing about this commit.
    index = repository / "overlay.index"
    for leftover in (index, index.with_name(f"{index.name}.lock")):
        leftover.unlink(missing_ok=True)
    scratch = {"GIT_INDEX_FILE": str(index)}
    lines: list[str] = []
    for name, text in sorted(edit.files.items()):
        oid = "0" * len(parent) if text is None else git("hash-object", "-w", "--stdin", stdin=text)
        lines.append(f"{'0' if text is None else '100644'} {oid}\t{path}{'/' if path else ''}{name}\0")
    git("read-tree", parent, variables=scratch)
    git("update-index", "-z", "--index-info", stdin="".join(lines), variables=scratch)
    tree = git("write-tree", variables=scratch)
    return git("commit-tree", tree, "-p", parent, "-F", "-", stdin=edit.message, variables=_IDENTITY)


def _tree(repository: Path, deadline: Deadline, *arguments: str) -> list[tuple[str, str, str]]:
    """``(mode, object, name)`` of the entries of a tree."""
    output = run_git(["ls-tree", "-z", "--full-tree", *arguments], deadline, folder=repository)
    pairs = [line.split("\t", 1) for line in output.decode(errors="surrogateescape").split("\0") if line]
    return [(meta.split()[0], meta.split()[2], name) for meta, name in pairs]


def _texts(repository: Path, objects: list[str], deadline: Deadline) -> dict[str, str | None]:
    """Contents by object; ``None`` for what is not UTF-8."""
    if not objects:
        return {}
    asked = "".join(f"{oid}\n" for oid in objects).encode()
    data = run_git(["cat-file", "--batch"], deadline, folder=repository, stdin=asked)
    texts: dict[str, str | None] = {}
    position = 0
    for oid in objects:
        end = data.find(b"\n", position)
        header = data[position:end].split()
        if end < 0 or len(header) != 3 or header[1] != b"blob":
            raise GitError(f"git cat-file: {oid} is not there")
        start, size = end + 1, int(header[2])
        try:
            texts[oid] = data[start : start + size].decode()
        except UnicodeDecodeError:
            texts[oid] = None
        position = start + size + 1  # the content, then a line feed that belongs to no object
    return texts
