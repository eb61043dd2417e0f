"""What Argo CD does, small: it follows a branch and makes the local plane what the overlay folder says."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import yaml

from financial_assets.serving.local.target import LocalTarget
from financial_assets.serving.manifests import kind_and_name
from tests.serving.git_remote import PATH, GitRemote
from tests.waiting import wait


class Syncer:
    """Runs in a thread; use as a context manager, which raises what went wrong in there."""

    def __init__(self, remote: GitRemote, cluster: LocalTarget) -> None:
        self.remote, self.cluster = remote, cluster
        self.running = threading.Event()
        self.running.set()
        self._synced, self._fault = "", None
        self._known: set[tuple[str, str]] = set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Syncer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.running.set()
        self._ends.set()
        self._thread.join()
        if self._fault is not None and error is None:
            raise self._fault

    def settle(self) -> None:
        """Wait until the plane is what the branch says."""

        def is_settled() -> bool:
            assert self._fault is None, self._fault
            return self._synced == self.remote.head()

        wait("the plane is what the branch says", is_settled, progress=lambda: self._synced, poll_s=0.05)

    def _run(self) -> None:
        try:
            while not self._ends.wait(0.05):
                head = self.remote.head()
                if head != self._synced and self.running.is_set():
                    self._sync(head)
                    self._synced = head
        except BaseException as fault:
            self._fault = fault

    def _sync(self, head: str) -> None:
        if "kustomization.yaml" not in self.remote.files():
            return
        listed = yaml.safe_load(self.remote.show(f"{PATH}/kustomization.yaml", head))["resources"]
        wanted: list[dict[str, Any]] = [yaml.safe_load(self.remote.show(f"{PATH}/{name}", head)) for name in listed]
        found = {kind_and_name(manifest) for manifest in wanted}
        self.cluster.apply(wanted)
        for kind, name in sorted(self._known - found):  # an Experiment before its Models
            self.cluster.delete(kind, name)
        self._known = found
