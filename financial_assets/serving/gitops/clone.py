"""One branch of a remote repository, changed by compare-and-swap.

The folder is only a cache: a bare, shallow repository without state of its own. Each change is a new commit on top of
the remote's current head, made without working tree or local branch, and pushed on the condition that the head has not
moved (``--force-with-lease``). So there is never an unpushed commit to lose, a killed process leaves only garbage, a
force-pushed history is accepted, and a damaged folder is discarded and fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from financial_assets.errors import NotReadyError, TargetError
from financial_assets.folders import make_folder
from financial_assets.locking import exclusive
from financial_assets.redaction import conceal, without_user
from financial_assets.serving.deadline import Deadline
from financial_assets.serving.gitops.git import GitError, explain_push, explain_remote, run_git, user_variables
from financial_assets.serving.gitops.trees import Edit, Folder, TreeSnapshot, read_folder, write_commit

_Result = TypeVar("_Result")
_HEAD = "refs/gitops/head"
_MARK = "financial-assets-clone"
_ATTEMPTS = 20
_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.05, 2.0


class _OvertakenError(Exception):
    """The branch moved between reading and writing."""


class Clone:
    """Reads and changes one folder of one branch.

    Parameters
    ----------
    folder
        Where the cache lies; a lock file stands beside it.
    repository
        URL or path of the remote.
    branch
        Its branch; must exist.
    path
        The folder in the repository, ``""`` for its root.
    """

    def __init__(self, folder: Path, repository: str, branch: str, path: str) -> None:
        self._folder = folder.absolute()
        self._repository = repository
        self._shown = conceal(repository)
        is_web = repository.startswith(("http://", "https://"))
        self._address, user = without_user(repository) if is_web else (repository, "")
        self._variables = user_variables(user)
        self._branch = branch
        self._path = path

    def read(self, deadline: Deadline) -> TreeSnapshot:
        """The folder at the remote's head.

        Raises
        ------
        TargetError
            The remote cannot be reached or has no such branch.
        """
        with self._locked(deadline):
            return self._healing(lambda: read_folder(self._folder, self._fetch(deadline), self._path, deadline))

    def last_read(self, deadline: Deadline) -> TreeSnapshot | None:
        """The folder as it was last seen; ``None`` if it never was. Asks no remote and waits for no other process."""
        if not self._is_ours():
            return None
        try:
            head = self._git(deadline, "rev-parse", "--verify", "-q", _HEAD)
            return read_folder(self._folder, head, self._path, deadline)
        except GitError:
            return None

    def change(self, edit: Callable[[Folder], Edit], deadline: Deadline) -> str:
        """Put a change on top of the branch; returns the commit that holds it.

        Parameters
        ----------
        edit
            From the folder to its change; called again if somebody else pushed meanwhile.

        Raises
        ------
        TargetError
            Unreachable, refused, or overtaken by others again and again.
        """
        attempt, last = 0, ""
        with self._locked(deadline):
            while attempt < _ATTEMPTS and not (attempt and deadline.passed):
                try:
                    return self._healing(lambda: self._change_once(edit, deadline))
                except _OvertakenError as error:
                    last = str(error)
                time.sleep(min(_BACK_OFF_S * 2**attempt, _LONGEST_BACK_OFF_S, deadline.left))
                attempt += 1
        raise TargetError(
            f"GITOPS_BRANCH: others pushed to {self._branch} of {self._shown} during each of {attempt} attempts "
            f"within {deadline.seconds:g} s (last: {last}); nothing was changed, run it again"
        )

    def _change_once(self, edit: Callable[[Folder], Edit], deadline: Deadline) -> str:
        head = read_folder(self._folder, self._fetch(deadline), self._path, deadline)
        wanted = edit(head.folder)
        if not wanted.files:
            return head.commit
        commit = write_commit(self._folder, head.commit, self._path, wanted, deadline)
        self._push(commit, head.commit, deadline)
        self._git(deadline, "update-ref", _HEAD, commit)
        return commit

    def _fetch(self, deadline: Deadline) -> str:
        """The remote's head, present in the cache."""
        head = self._remote_head(deadline)
        self._prepare(head, deadline)
        try:
            if self._git(deadline, "rev-parse", "--verify", "-q", _HEAD) == head:
                return head
        except GitError:
            pass  # a new cache has no head yet
        refspec = f"+refs/heads/{self._branch}:{_HEAD}"
        options = ("--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head", "--no-recurse-submodules")
        try:
            self._git(deadline, "fetch", *options, "--", self._address, refspec)
        except GitError as error:
            if error.timed_out:
                raise explain_remote(self._shown, error) from error
            raise
        return self._git(deadline, "rev-parse", "--verify", f"{_HEAD}^{{commit}}")

    def _remote_head(self, deadline: Deadline) -> str:
        """The remote's head, asked apart from the fetch: if only the fetch fails, the cache is to blame."""
        heads: dict[str, str] = {}
        try:
            for pattern in (f"refs/heads/{self._branch}", "refs/heads/*"):
                output = run_git(["ls-remote", "--", self._address, pattern], deadline, variables=self._variables)
                lines = output.decode(errors="replace").splitlines()
                heads = {name: commit for commit, name in (line.split("\t") for line in lines)}
                if f"refs/heads/{self._branch}" in heads:
                    return heads[f"refs/heads/{self._branch}"]
        except GitError as error:
            raise explain_remote(self._shown, error) from error
        if not heads:
            raise TargetError(
                f"GITOPS_REPOSITORY: {self._shown} has no branch at all; push a first commit to {self._branch}"
            )
        branches = ", ".join(sorted(name.removeprefix("refs/heads/") for name in heads)[:20])
        raise TargetError(
            f"GITOPS_BRANCH: {self._shown} has no branch {self._branch}; it has {branches}; "
            "create the branch or name another"
        )

    def _push(self, commit: str, expected: str, deadline: Deadline) -> None:
        """Move the branch from ``expected`` to ``commit``, or not at all."""
        branch = f"refs/heads/{self._branch}"
        options = ("--porcelain", "--no-verify", "--recurse-submodules=no", f"--force-with-lease={branch}:{expected}")
        try:
            self._git(deadline, "push", *options, "--", self._address, f"{commit}:{branch}")
            return
        except GitError as error:
            fault = error
        try:
            head = self._remote_head(deadline)
        except TargetError as error:
            raise TargetError(
                f"{explain_push(self._shown, self._branch, fault)}; whether the commit {commit[:12]} arrived is "
                f"unknown ({error}); running it again is safe"
            ) from fault
        # Also true when the push arrived and only the answer got lost: the next attempt finds nothing left to change.
        if head != expected or fault.is_race:
            raise _OvertakenError(str(fault)) from fault
        if not fault.refusal:
            self._raise_if_damaged(deadline)
        raise explain_push(self._shown, self._branch, fault) from fault

    def _raise_if_damaged(self, deadline: Deadline) -> None:
        """Raise the ``GitError`` that makes :meth:`_healing` replace the cache, if the cache is to blame."""
        try:
            self._git(deadline, "fsck", "--no-dangling", "--no-progress")
        except GitError as error:
            if not error.timed_out:
                raise

    def _git(self, deadline: Deadline, *arguments: str) -> str:
        output = run_git(list(arguments), deadline, folder=self._folder, variables=self._variables)
        return output.decode(errors="replace").rstrip("\n")

    def _healing(self, work: Callable[[], _Result]) -> _Result:
        """Do ``work``; if the cache turns out damaged or locked by a dead process, once more with a fresh one."""
        try:
            return work()
        except GitError as error:
            if error.timed_out:
                raise
        except FileNotFoundError:
            pass  # somebody removed the folder meanwhile
        try:
            self._discard()
            return work()
        except (GitError, OSError) as error:
            raise TargetError(
                f"the clone of GITOPS_REPOSITORY in {self._folder} cannot be used, not even a fresh one ({error}); "
                "check the disk and the rights of FINANCIAL_ASSETS_HOME"
            ) from error

    def _prepare(self, head: str, deadline: Deadline) -> None:
        """Make the cache, unless it is there and of this remote."""
        if self._is_ours() and (self._folder / "HEAD").exists():
            return
        self._discard()
        make_folder(self._folder)
        # The mark comes first: a folder without it is never removed.
        (self._folder / _MARK).write_bytes(self._identity)
        kind = "sha1" if len(head) == 40 else "sha256"
        run_git(
            ["init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "--", str(self._folder)], deadline
        )

    @property
    def _identity(self) -> bytes:
        return hashlib.sha256(f"{self._repository}\n{self._branch}".encode()).digest()

    def _is_ours(self) -> bool:
        """Whether the folder was made for this branch of this remote."""
        mark = self._folder / _MARK
        return mark.is_file() and mark.read_bytes() == self._identity

    def _discard(self) -> None:
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()
        if not self._folder.exists():
            return
        if not (self._folder / _MARK).is_file():
            raise TargetError(
                f"{self._folder} is not this program's clone of GITOPS_REPOSITORY and is left alone; "
                "move it away or choose another FINANCIAL_ASSETS_HOME"
            )
        shutil.rmtree(self._folder)

    def _locked(self, deadline: Deadline) -> AbstractContextManager[None]:
        lock = self._folder.with_name(f"{self._folder.name}.lock")
        try:
            make_folder(lock.parent)
            lock.touch()
        except OSError as error:
            raise TargetError(
                f"FINANCIAL_ASSETS_HOME: the clone of GITOPS_REPOSITORY cannot be kept: {error}"
            ) from error
        return exclusive(lock, deadline.left, error=NotReadyError, purpose="the clone of GITOPS_REPOSITORY")
