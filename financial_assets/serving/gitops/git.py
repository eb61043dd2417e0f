"""The ``git`` program, called so that it can neither ask, nor hang, nor be steered by the caller's shell; its failures.

We call the program instead of a library because it supports every transport and finds every credential that the machine
is set up for. GitPython calls the same program, is in maintenance mode, and its recent security advisories concern
options smuggled through the layer that it adds on top.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from financial_assets.errors import TargetError
from financial_assets.redaction import redact
from financial_assets.serving.deadline import Deadline

# A surrounding call (a hook, an alias) names *its* repository by these; credentials and transports are kept.
_REPOSITORY_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
_FIXED_VARIABLES = {
    "GIT_TERMINAL_PROMPT": "0",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}
# A person's own configuration must not change these.
_OPTIONS = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.quotePath=false"),
    *("-c", "gc.autoDetach=false"),
    *("-c", "maintenance.autoDetach=false"),
    *("-c", "push.followTags=false"),
    *("-c", "push.gpgSign=false"),
)
# What servers write when two pushes meet.
_MEETING = ("cannot lock ref", "failed to update ref", "incorrect old value", "failed to lock")


class GitError(TargetError):
    """A call of ``git`` failed.

    Attributes
    ----------
    stderr, stdout
        What it wrote, without credentials.
    timed_out
        Whether it was ended because the deadline passed.
    """

    def __init__(self, message: str, *, stderr: str = "", stdout: str = "", timed_out: bool = False) -> None:
        super().__init__(message)
        self.stderr = stderr
        self.stdout = stdout
        self.timed_out = timed_out

    @property
    def refusal(self) -> str:
        """Why the server itself turned a push down, e.g. ``[remote rejected] (pre-receive hook declined)``."""
        # The third column of the line that starts with an exclamation mark.
        lines = [line.split("\t") for line in self.stdout.splitlines() if line.startswith("!")]
        return lines[0][-1].strip() if lines else ""

    @property
    def is_race(self) -> bool:
        """Whether a push was refused only because another one came in between."""
        return self.refusal.startswith("[rejected]") or any(words in self.refusal for words in _MEETING)


def run_git(
    arguments: list[str],
    deadline: Deadline,
    *,
    folder: Path | None = None,
    stdin: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> bytes:
    """Standard output of ``git <arguments>``.

    Parameters
    ----------
    arguments
        Command and its arguments.
    deadline
        When the program, and all that it started, is killed.
    folder
        The bare repository that it works on.
    stdin
        Its standard input.
    variables
        Added to its environment.

    Raises
    ------
    GitError
        It failed, or was not done in time.
    TargetError
        Git is not installed.
    """
    if deadline.passed:
        raise GitError(f"git {arguments[0]}: no time left of {deadline.seconds:g} s", timed_out=True)
    repository = [] if folder is None else [f"--git-dir={folder}"]
    inherited = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    try:
        process = subprocess.Popen(
            ["git", *_OPTIONS, *repository, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**inherited, **_FIXED_VARIABLES, **(variables or {})},
            start_new_session=True,  # no terminal on which to ask for a password, and one group to kill
        )
    except FileNotFoundError as error:
        raise TargetError("the program git is not installed; apt install git") from error
    try:
        stdout, stderr = process.communicate(stdin, timeout=deadline.left)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise GitError(f"git {arguments[0]}: not done within {deadline.seconds:g} s", timed_out=True) from None
    except BaseException:
        _kill(process)
        raise
    if process.returncode:
        complaint = redact(stderr.decode(errors="replace")).strip()
        in_one_line = " / ".join(line.strip() for line in complaint.splitlines() if line.strip())
        raise GitError(
            f"git {arguments[0]}: {in_one_line or f'ended with {process.returncode}'}",
            stderr=complaint,
            stdout=redact(stdout.decode(errors="replace")),
        )
    return stdout


def user_variables(user: str) -> dict[str, str]:
    """Variables that tell ``git`` whose credentials to look for, instead of the address.

    An address shows in the process list, for ``git`` and for each helper that it starts, and its user may be a token.
    """
    if not user:
        return {}
    number = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": "credential.username",
        f"GIT_CONFIG_VALUE_{number}": user,
    }


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def explain_remote(repository: str, error: GitError) -> TargetError:
    """Why the remote could not be read."""
    return TargetError(
        f"GITOPS_REPOSITORY: {repository} cannot be read ({error}); check the address, that it can be reached from "
        "here, and that the SSH key or credential helper of this account may read it"
    )


def explain_push(repository: str, branch: str, error: GitError) -> TargetError:
    """Why the remote did not take the push."""
    if error.refusal:
        remote_lines = [line for line in error.stderr.splitlines() if "remote:" in line]
        message = " / ".join(line.removeprefix("remote:").strip() for line in remote_lines)
        reason = f"{error.refusal} ({message})" if message else error.refusal
        return TargetError(
            f"GITOPS_BRANCH: {repository} refuses the push to {branch}: {reason}; nothing was changed. If the branch "
            "is protected, let this account push to it or name another branch"
        )
    return TargetError(
        f"GITOPS_REPOSITORY: the push to branch {branch} of {repository} failed ({error}); "
        "check the connection and that this account may write there"
    )
