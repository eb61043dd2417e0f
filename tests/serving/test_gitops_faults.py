"""The GitOps target when others write too, when the remote refuses or fails, and when it was killed itself."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import yaml

from financial_assets.errors import ManifestError, TargetError
from financial_assets.serving.gitops import clone
from financial_assets.serving.gitops.target import GitOpsTarget
from financial_assets.serving.manifests import experiment_manifest
from tests.serving.git_remote import PATH, GitRemote, git, model, split
from tests.serving.serving_objects import weights_of
from tests.waiting import wait

pytestmark = pytest.mark.debian("git")

EXPERIMENT = f"{PATH}/experiment-x-experiment.yaml"


@pytest.fixture
def remote(tmp_path: Path) -> GitRemote:
    return GitRemote(tmp_path / "git")


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let something happen once between reading the branch and pushing to it."""

    def arrange(happens: Callable[[], object]) -> None:
        pending, real = [happens], clone.write_commit

        def write_commit(*arguments: object) -> str:
            if pending:
                pending.pop()()
            return real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(clone, "write_commit", write_commit)

    return arrange


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def specs(remote: GitRemote) -> dict[str, dict[str, object]]:
    return {
        name: yaml.safe_load(remote.show(f"{PATH}/{name}"))["spec"]
        for name in remote.files()
        if name.startswith(("model-", "experiment-"))
    }


def test_what_others_pushed_meanwhile_stays(remote: GitRemote, meanwhile: Callable[..., None]) -> None:
    ours, theirs = remote.target(), remote.target("other-clone")
    ours.apply(split("x", 70, 30))
    theirs.apply(split("y", 50, 50))
    note = f"{PATH}/note.md"
    meanwhile(lambda: (theirs.apply(split("y", 1, 9)), remote.person({note: "hello\n"})))
    ours.apply(split("x", 10, 90))
    assert weights_of(ours, "y-experiment") == {"y-a": 1, "y-b": 9}
    assert weights_of(ours, "x-experiment") == {"x-a": 10, "x-b": 90}
    assert remote.show(note) == "hello\n"
    assert remote.changed() == {"experiment-x-experiment.yaml": ("2", "2")}


def test_of_two_who_write_the_same_object_the_last_wins(remote: GitRemote, meanwhile: Callable[..., None]) -> None:
    ours, theirs = remote.target(), remote.target("other-clone")
    ours.apply([*split("x", 70, 30), model("x-c")])
    meanwhile(lambda: theirs.apply(split("x", 1, 9)))
    ours.apply(split("x", 2, 8))
    assert "(was x-a 1, x-b 9)" in remote.message()
    assert weights_of(theirs, "x-experiment") == {"x-a": 2, "x-b": 8}


def test_the_rules_are_checked_again_on_top_of_what_others_pushed(
    remote: GitRemote, meanwhile: Callable[..., None]
) -> None:
    ours, theirs = remote.target(), remote.target("other-clone")
    ours.apply([model("x-a")])
    taken = experiment_manifest("their-experiment", default="x-a", weights={"x-a": 1})
    meanwhile(lambda: theirs.apply([taken]))
    with pytest.raises(ManifestError, match="default of both their-experiment and our-experiment"):
        ours.apply([experiment_manifest("our-experiment", default="x-a", weights={"x-a": 1})])
    assert remote.message().startswith("Experiment their-experiment")


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_rewritten_history_is_followed(remote: GitRemote, meanwhile: Callable[..., None], when: str) -> None:
    target, start = remote.target(), remote.head()
    target.apply(split("x", 70, 30))

    def rewrite() -> None:
        remote.person({"other.md": "from scratch\n"}, onto=start)

    if when == "before":
        rewrite()
        assert target.status().models == ()
    else:
        meanwhile(rewrite)
    target.apply([model("z")])
    assert remote.files() == ["kustomization.yaml", "model-z.yaml"]
    assert remote.count() == 3
    assert target.status().experiments == ()


def test_many_threads_with_two_clones_lose_nothing(remote: GitRemote) -> None:
    targets = [remote.target(), remote.target("other-clone")]
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(targets[n % 2].apply, [model(f"m-{n}")]) for n in range(12)]
    for future in futures:
        future.result()
    assert sorted(specs(remote)) == sorted(f"model-m-{n}.yaml" for n in range(12))
    assert remote.count() == 13
    assert git(remote.bare, "rev-list", "--merges", "main") == ""


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.serving.git_remote import model, split
from financial_assets.serving.gitops import clone
from financial_assets.serving.gitops.target import GitOpsTarget
target = GitOpsTarget({url!r}, branch="main", path={path!r}, clone=Path({clone!r}),
                      http_url="http://127.0.0.1:9", grpc_target="127.0.0.1:9", timeout_s=60)
"""


def start(remote: GitRemote, clone_name: str, body: str) -> subprocess.Popen[str]:
    """A process of its own that has the target in ``target``."""
    setting = {"url": str(remote.bare), "path": PATH}
    code = SCRIPT.format(**setting, clone=str(remote.root / clone_name)) + body
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=root)


def test_processes_that_share_a_clone_and_one_that_does_not_lose_nothing(remote: GitRemote) -> None:
    body = "for n in range(4): target.apply([model(f'{name}-{{n}}')])"
    names = {"a": "clone", "b": "clone", "c": "other-clone"}
    running = [
        start(remote, folder, body.replace("{name}", name).replace("{{n}}", "{n}")) for name, folder in names.items()
    ]
    for process in running:
        assert process.wait() == 0, process.communicate()[1]
        process.communicate()
    assert sorted(specs(remote)) == sorted(f"model-{name}-{n}.yaml" for name in names for n in range(4))


@pytest.mark.parametrize("place", ["_push", "_prepare"])
def test_a_process_killed_in_the_middle_leaves_nothing_half_done(remote: GitRemote, place: str) -> None:
    start_head = remote.head()
    body = f"clone.Clone.{place} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\ntarget.apply(split('x', 70, 30))"
    process = start(remote, "clone", body)
    assert process.wait() == -9, process.communicate()[1]
    process.communicate()
    assert remote.head() == start_head
    remote.target().apply([model("z")])
    assert remote.files() == ["kustomization.yaml", "model-z.yaml"]


def corrupt(folder: Path) -> None:
    for file in folder.glob("objects/*/*"):
        file.chmod(0o644)
        file.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a lock on the head": lambda folder: (folder / "refs/gitops/head.lock").touch(),
    "a lock on the shallow file": lambda folder: (folder / "shallow.lock").touch(),
    "a lock on the index": lambda folder: [
        (folder / f"{n}.lock").touch() for n in ("index", "overlay.index", "config")
    ],
    "a half-written index": lambda folder: (folder / "overlay.index").write_bytes(b"DIRC"),
    "no HEAD": lambda folder: (folder / "HEAD").unlink(),
    "an empty configuration": lambda folder: (folder / "config").write_text("[core"),
    "nothing but the mark": lambda folder: [
        shutil.rmtree(p) if p.is_dir() else p.unlink() for p in folder.iterdir() if p.name != "financial-assets-clone"
    ],
    "a half-written mark": lambda folder: (folder / "financial-assets-clone").write_bytes(b"\xff"),
    "empty objects": corrupt,
    "no objects": lambda folder: shutil.rmtree(folder / "objects"),
    "a head that is nothing": lambda folder: (folder / "refs/gitops/head").write_text("x"),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_clone_heals(remote: GitRemote, damage: str) -> None:
    target, folder = remote.target(), remote.root / "clone"
    target.apply(split("x", 70, 30))
    DAMAGES[damage](folder)
    assert weights_of(target, "x-experiment") == {"x-a": 70, "x-b": 30}
    remote.person({"README.md": "More.\n"})
    DAMAGES[damage](folder)
    target.apply(split("x", 1, 1))
    assert weights_of(target, "x-experiment") == {"x-a": 1, "x-b": 1}
    assert remote.changed() == {"experiment-x-experiment.yaml": ("2", "2")}


def test_a_folder_that_is_not_our_clone_is_left_alone(remote: GitRemote) -> None:
    precious = remote.root / "clone" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(TargetError, match=r"not this program's clone.*FINANCIAL_ASSETS_HOME"):
        remote.target().apply([model("z")])
    assert precious.read_text() == "years of work"


def test_the_clone_of_another_repository_or_branch_is_replaced(remote: GitRemote, tmp_path: Path) -> None:
    remote.target().apply([model("first")])
    second = GitRemote(tmp_path / "second")
    second.target(clone=remote.root / "clone").apply([model("second")])
    assert second.files() == ["kustomization.yaml", "model-second.yaml"]
    git(second.bare, "branch", "next", second.head())
    other = second.target(clone=remote.root / "clone", branch="next")
    other.delete("Model", "second")
    assert second.files() == ["kustomization.yaml", "model-second.yaml"]
    assert other.status().models == ()


@pytest.mark.parametrize("hook", ["pre-receive", "update"])
def test_a_refused_push_says_why_and_changes_nothing(remote: GitRemote, hook: str) -> None:
    target = remote.target()
    target.apply(split("x", 70, 30))
    head = remote.head()
    file = remote.hook(hook, "echo 'main is protected, open a pull request' >&2; exit 1")
    with pytest.raises(TargetError, match=r"GITOPS_BRANCH.*refuses.*hook declined.*open a pull request"):
        target.apply(split("x", 1, 1))
    assert remote.head() == head
    assert weights_of(target, "x-experiment") == {"x-a": 70, "x-b": 30}
    file.unlink()
    target.apply(split("x", 1, 1))
    assert weights_of(target, "x-experiment") == {"x-a": 1, "x-b": 1}


def test_a_push_that_meets_another_on_the_server_is_repeated(remote: GitRemote) -> None:
    target = remote.target()
    target.apply([model("x-a")])
    lock = remote.bare / "refs/heads/main.lock"
    lock.touch()
    tries = remote.root / "tries"
    remote.hook("pre-receive", f"echo >> {tries}; [ $(wc -l < {tries}) -lt 3 ] || rm -f {lock}")
    target.apply([model("x-b")])
    assert "model-x-b.yaml" in remote.files()
    assert len(tries.read_text().splitlines()) >= 3


def test_others_who_never_stop_are_told(remote: GitRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    target = remote.target()
    target.apply([model("x-a")])
    (remote.bare / "refs/heads/main.lock").touch()
    monkeypatch.setattr(clone, "_ATTEMPTS", 3)
    with pytest.raises(TargetError, match=r"GITOPS_BRANCH.*each of 3 attempts.*nothing was changed"):
        target.apply([model("x-b")])


def test_an_answer_that_got_lost_is_not_taken_for_a_failure(remote: GitRemote) -> None:
    target = remote.target()
    target.apply([model("x-a")])
    hook = remote.hook("reference-transaction", 'if [ "$1" = committed ]; then kill -9 $PPID; fi')
    target.apply([model("x-b")])
    hook.unlink()
    assert remote.files() == ["kustomization.yaml", "model-x-a.yaml", "model-x-b.yaml"]
    assert remote.count() == 3


def test_an_account_that_may_read_but_not_write(remote: GitRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    url = remote.ssh(monkeypatch, 'case $command in *receive*) echo "Permission to push denied" >&2; exit 1;; esac')
    head = remote.head()
    with pytest.raises(TargetError, match=r"GITOPS_REPOSITORY.*Permission to push denied.*may write"):
        remote.target(repository=url).apply([model("x-a")])
    assert remote.head() == head


def test_a_remote_that_hangs_ends_with_the_deadline(remote: GitRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = remote.root / "pid"
    url = remote.ssh(monkeypatch, f"echo $$ > {pid}; exec sleep 600")
    with pytest.raises(TargetError, match=r"GITOPS_REPOSITORY.*not done within 3 s"):
        remote.target(repository=url, timeout_s=3).apply([model("x-a")])
    # It was told to end; somebody else's child, it may take a moment to go and then wait to be reaped.
    sleeper = int(pid.read_text())
    wait("what git had started has ended", lambda: not is_running(sleeper))


def test_nobody_is_asked_for_a_password(remote: GitRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    url = remote.ssh(monkeypatch, 'if ( : < /dev/tty ) 2>/dev/null; then echo "has a terminal" >&2; fi; exit 255')
    with pytest.raises(TargetError, match="GITOPS_REPOSITORY") as caught:
        remote.target(repository=url).apply([model("x-a")])
    assert "terminal" not in str(caught.value)


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("/nowhere/at/all.git", r"GITOPS_REPOSITORY: /nowhere/at/all\.git cannot be read"),
        ("http://token@127.0.0.1:1/r.git", r"GITOPS_REPOSITORY: http://\*\*\*@127.*(refused|connect)"),
        ("ext::sh -c true", "GITOPS_REPOSITORY.*not allowed"),
    ],
)
def test_an_unreachable_remote_is_named(remote: GitRemote, repository: str, words: str) -> None:
    target = remote.target(repository=repository)
    for ask in (lambda: target.apply([model("x-a")]), lambda: target.wait_ready(["x-experiment"], 1)):
        with pytest.raises(TargetError, match=words) as caught:
            ask()
        assert "token" not in str(caught.value)
    status = target.status()
    assert not status.ready
    assert "GITOPS_REPOSITORY" in status.problems[0]


def test_a_token_is_given_to_git_and_not_to_its_process_list(
    remote: GitRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that wants a password looks at all processes while git waits for it."""
    seen: list[str] = []
    logins: list[str | None] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            logins.append(self.headers["authorization"])
            seen.extend(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
            self.send_response(401)
            self.send_header("www-authenticate", "Basic realm=git")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    helper = tmp_path / "helper"
    helper.write_text('#!/bin/sh\nwhile read -r line && test -n "$line"; do :; done\necho password=opensesame\n')
    helper.chmod(0o755)
    (tmp_path / "config").write_text(f"[credential]\n\thelper = {helper}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        try:
            target = remote.target(repository=f"http://ghp%5Fabcdef@127.0.0.1:{server.server_address[1]}/r.git")
            with pytest.raises(TargetError, match=r"GITOPS_REPOSITORY: http://\*\*\*@127") as caught:
                target.wait_ready(["x-experiment"], 1)
        finally:
            server.shutdown()
    assert f"Basic {base64.b64encode(b'ghp_abcdef:opensesame').decode()}" in logins
    calls = [line for line in seen if "ls-remote" in line or "remote-http" in line]
    assert calls
    for text in (*calls, "".join(traceback.format_exception(caught.value))):
        assert "abcdef" not in text
        assert "opensesame" not in text


def test_an_unreachable_remote_leaves_the_last_known_state_to_be_seen(remote: GitRemote) -> None:
    target = remote.target()
    target.apply(split("x", 70, 30))
    remote.bare.rename(remote.root / "away")
    status = target.status()
    assert not status.ready
    assert "cannot be read" in status.problems[0]
    assert [item.name for item in status.models] == ["x-a", "x-b"]
    # The clone is another repository's to this one.
    assert remote.target(repository="/nowhere/at/all.git").status().models == ()


def test_a_missing_branch_and_an_empty_repository_are_named(remote: GitRemote, tmp_path: Path) -> None:
    git(remote.bare, "branch", "develop", "main")
    with pytest.raises(TargetError, match=r"GITOPS_BRANCH.*no branch prod; it has develop, main"):
        remote.target(branch="prod").apply([model("x-a")])
    assert git(remote.bare, "for-each-ref", "--format=%(refname:short)").split() == ["develop", "main"]
    git(tmp_path, "init", "-q", "--bare", "empty.git")
    with pytest.raises(TargetError, match=r"GITOPS_REPOSITORY.*no branch at all"):
        remote.target(repository=str(tmp_path / "empty.git")).apply([model("x-a")])


def test_a_branch_that_disappears_is_not_made_again(remote: GitRemote, meanwhile: Callable[..., None]) -> None:
    target = remote.target()
    target.apply([model("x-a")])
    meanwhile(lambda: git(remote.bare, "branch", "-m", "main", "trunk"))
    with pytest.raises(TargetError, match=r"GITOPS_BRANCH.*no branch main; it has trunk"):
        target.apply([model("x-b")])
    assert git(remote.bare, "for-each-ref", "--format=%(refname:short)") == "trunk"


def test_a_path_through_something_else_than_folders_is_refused(remote: GitRemote) -> None:
    desk = remote.checkout("links")
    (desk / "link").symlink_to("/etc")
    (desk / "file").write_text("x")
    (desk / "overlay").mkdir()
    (desk / "overlay" / "kustomization.yaml").symlink_to("/etc/hosts")
    git(desk, "add", "-A")
    git(desk, "commit", "-q", "-m", "links")
    git(desk, "push", "-q", "origin", "HEAD:main")
    head = remote.head()
    for path, words in {
        "link": "link is not a folder",
        "link/serving": "link is not a folder",
        "file/serving": "file is not a folder",
        "overlay": r"kustomization",
    }.items():
        with pytest.raises(TargetError, match=f"GITOPS_PATH.*{words}"):
            remote.target(path=path).apply([model("x-a")])
    assert remote.head() == head


def test_the_surrounding_repository_and_configuration_do_not_matter(
    remote: GitRemote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-push", "pre-commit", "post-checkout"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    configuration = tmp_path / "gitconfig"
    configuration.write_text(
        f"[core]\n\thooksPath = {hooks}\n\tautocrlf = true\n[commit]\n\tgpgSign = true\n[push]\n\tgpgSign = true\n"
        "[user]\n\tname = Somebody\n[init]\n\tdefaultObjectFormat = sha256\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "elsewhere" / "objects"))
    remote.target().apply(split("x", 70, 30))
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.delenv(name)
    assert not (tmp_path / "elsewhere").exists()
    assert git(remote.bare, "log", "-1", "--format=%an", "main") == "financial-assets"
    assert "\r" not in remote.show(EXPERIMENT)


def test_without_the_program_its_package_is_named(remote: GitRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    target = remote.target()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TargetError, match="apt install git"):
        target.apply([model("x-a")])
    assert "apt install git" in target.status().problems[0]


def test_a_call_waits_for_the_clone_no_longer_than_its_time(remote: GitRemote) -> None:
    holds, done = threading.Event(), threading.Event()
    target = remote.target(timeout_s=0.3)

    def hold() -> None:
        with clone.exclusive(remote.root / "clone.lock", 5, error=TargetError, purpose="the test"):
            holds.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait(30)
    try:
        with pytest.raises(TargetError, match="held by another process"):
            target.apply([model("x-a")])
        assert "held by another process" in target.status().problems[0]
    finally:
        done.set()
        thread.join()


def test_another_object_format_is_spoken(tmp_path: Path) -> None:
    root = tmp_path / "modern"
    root.mkdir()
    git(root, "init", "-q", "--bare", "-b", "main", "--object-format=sha256", "r.git")
    git(root, "init", "-q", "-b", "main", "--object-format=sha256", "w")
    git(root / "w", "commit", "-q", "--allow-empty", "-m", "start")
    git(root / "w", "push", "-q", str(root / "r.git"), "main")
    target = GitOpsTarget(
        str(root / "r.git"),
        branch="main",
        path=PATH,
        clone=root / "clone",
        http_url="http://127.0.0.1:9",
        grpc_target="127.0.0.1:9",
    )
    target.apply([model("x-a")])
    target.delete("Model", "x-a")
    assert target.status().models == ()
