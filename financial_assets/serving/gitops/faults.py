"""What a failed call of ``git`` on the remote means: which setting to look at and what fixes it."""

from __future__ import annotations

from financial_assets.errors import TargetError
from financial_assets.serving.gitops.git import GitError

__all__ = ["explain_push", "explain_remote", "is_race", "is_refusal"]

# What servers write when two pushes meet.
_MEETING = ("cannot lock ref", "failed to update ref", "incorrect old value", "failed to lock")


def explain_remote(repository: str, error: GitError) -> TargetError:
    """Why the remote could not be read."""
    return TargetError(
        f"GITOPS_REPOSITORY: {repository} cannot be read ({error}); check the address, that it can be reached from "
        "here, and that the SSH key or credential helper of this account may read it"
    )


def explain_push(repository: str, branch: str, error: GitError) -> TargetError:
    """Why the remote did not take the push."""
    reason = _refusal(error)
    if reason:
        remote_lines = [line for line in error.stderr.splitlines() if "remote:" in line]
        message = " / ".join(line.removeprefix("remote:").strip() for line in remote_lines)
        return TargetError(
            f"GITOPS_BRANCH: {repository} refuses the push to {branch}: {reason}{f' ({message})' if message else ''}; "
            "nothing was changed. If the branch is protected, let this account push to it or name another branch"
        )
    return TargetError(
        f"GITOPS_REPOSITORY: the push to branch {branch} of {repository} failed ({error}); "
        "check the connection and that this account may write there"
    )


def is_refusal(error: GitError) -> bool:
    """Whether the server itself turned the push down."""
    return bool(_refusal(error))


def is_race(error: GitError) -> bool:
    """Whether the push was refused only because another one came in between."""
    reason = _refusal(error)
    return reason.startswith("[rejected]") or any(words in reason for words in _MEETING)


def _refusal(error: GitError) -> str:
    """``[remote rejected] (pre-receive hook declined)``: the third column of the line that starts with ``!``."""
    lines = [line.split("\t") for line in error.stdout.splitlines() if line.startswith("!")]
    return lines[0][-1].strip() if lines else ""
