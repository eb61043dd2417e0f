"""Manifests as commits: what is written, what is left alone, what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import binom

from financial_assets.errors import ManifestError, NotReadyError, SettingsError, TargetError
from financial_assets.serving.gitops import probes
from financial_assets.serving.gitops.yaml_text import replace_resources
from financial_assets.serving.manifests import experiment_manifest, kind_and_name, model_manifest
from tests.serving.git_remote import KUSTOMIZATION, PATH, GitRemote, git, model, split
from tests.serving.serving_objects import weights_of

pytestmark = pytest.mark.debian("git")

DRAWS = probes._DRAWS  # read before a fixture of the whole session makes them fewer


@pytest.fixture
def remote(tmp_path: Path) -> GitRemote:
    return GitRemote(tmp_path / "git")


def test_apply_makes_one_commit_that_says_what_changed(remote: GitRemote) -> None:
    target = remote.target()
    target.apply(split("x", 70, 30))
    assert remote.files() == ["experiment-x-experiment.yaml", "kustomization.yaml", "model-x-a.yaml", "model-x-b.yaml"]
    assert yaml.safe_load(remote.show(KUSTOMIZATION))["resources"] == [
        "experiment-x-experiment.yaml",
        "model-x-a.yaml",
        "model-x-b.yaml",
    ]
    written = yaml.safe_load(remote.show(f"{PATH}/model-x-a.yaml"))
    assert written["spec"] == {"storageUri": "s3://models/x-a", "requirements": ["financial-onnx"]}
    assert written["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "financial-assets"}
    subject, _, *body = remote.message().splitlines()
    assert subject == "Experiment x-experiment: weights 70/30; Model x-a: new; Model x-b: new"
    assert "- Experiment x-experiment: x-a 70, x-b 30" in body
    assert "- Model x-a: new, storageUri s3://models/x-a" in body
    assert (
        git(remote.bare, "log", "-1", "--format=%an <%ae> %cn", "main")
        == "financial-assets <financial-assets@localhost> financial-assets"
    )
    assert remote.show("README.md") == "Our cluster.\n"
    assert weights_of(target, "x-experiment") == {"x-a": 70, "x-b": 30}


def test_applying_the_same_again_makes_no_commit(remote: GitRemote) -> None:
    manifests = split("x", 70, 30)
    remote.target().apply(manifests)
    head = remote.head()
    target = remote.target("another-clone")
    target.apply([dict(reversed(manifest.items())) for manifest in reversed(manifests)])
    target.delete("Model", "never-there")
    assert remote.head() == head


def test_new_weights_change_two_lines(remote: GitRemote) -> None:
    target = remote.target()
    target.apply(split("x", 70, 30))
    file = f"{PATH}/experiment-x-experiment.yaml"
    before = remote.show(file)
    target.apply(split("x", 5, 95))
    assert remote.changed() == {"experiment-x-experiment.yaml": ("2", "2")}
    assert remote.show(file) == before.replace(": 70", ": 5").replace(": 30", ": 95")
    assert remote.message().startswith("Experiment x-experiment: weights 5/95\n")
    assert "(was x-a 70, x-b 30)" in remote.message()


def test_new_weights_may_bring_another_model_in(remote: GitRemote) -> None:
    target = remote.target()
    target.apply([*split("x", 70, 30), model("x-c")])
    target.apply([experiment_manifest("x-experiment", default="x-a", weights={"x-a": 60, "x-c": 40})])
    assert weights_of(target, "x-experiment") == {"x-a": 60, "x-c": 40}
    assert set(remote.changed()) == {"experiment-x-experiment.yaml"}


def test_what_other_people_wrote_stays(remote: GitRemote) -> None:
    kustomization = (
        "# Serving, see the wiki.\n"
        "kind: Kustomization\n"
        "apiVersion: kustomize.config.k8s.io/v1beta1\n"
        "namespace: financial-inference\n"
        "resources:\n"
        "  - zoo.yaml  # first on purpose\n"
        "  # the base\n"
        "  - ../base\n"
        "patches:\n"
        "  - path: patch.yaml\n"
    )
    others = {
        KUSTOMIZATION: kustomization,
        f"{PATH}/zoo.yaml": "{{ a template }}\n",
        f"{PATH}/README.md": "Hands off.\n",
    }
    remote.person({**others, f"{PATH}/patch.yaml": "- op: test\n"})
    target = remote.target()
    target.apply([model("x-a")])
    assert remote.show(KUSTOMIZATION) == kustomization.replace("  - zoo", "  - model-x-a.yaml\n  - zoo")
    target.apply([model("x-b")])
    target.delete("Model", "x-a")
    target.delete("Model", "x-b")
    assert {name: remote.show(name) for name in others} == others


def test_what_others_added_to_our_files_stays(remote: GitRemote) -> None:
    target = remote.target()
    target.apply(split("x", 70, 30))
    document = yaml.safe_load(remote.show(f"{PATH}/model-x-a.yaml"))
    document["metadata"]["annotations"]["team"] = "risk"
    document["spec"]["replicas"] = 3
    remote.person({f"{PATH}/model-x-a.yaml": yaml.safe_dump(document)})
    head = remote.head()
    target.apply(split("x", 70, 30))
    assert remote.head() == head
    target.apply([model_manifest("x-a", "s3://models/new")])
    document["spec"]["storageUri"] = "s3://models/new"
    assert yaml.safe_load(remote.show(f"{PATH}/model-x-a.yaml")) == document
    assert "Model x-a: storageUri s3://models/new (was s3://models/x-a)" in remote.message()


def test_a_mirror_that_is_not_wanted_any_more_goes(remote: GitRemote) -> None:
    target = remote.target()
    *models, plain = split("x", 1, 1)
    shadowed = experiment_manifest("x-experiment", default="x-a", weights={"x-a": 1}, mirror=("x-b", 50))
    target.apply([*models, shadowed])
    target.apply([plain])
    assert "mirror" not in yaml.safe_load(remote.show(f"{PATH}/experiment-x-experiment.yaml"))["spec"]


@pytest.mark.parametrize("file", ["model-x-a.yaml", "by-hand.yaml"])
def test_an_object_of_somebody_else_is_neither_changed_nor_removed(remote: GitRemote, file: str) -> None:
    foreign = yaml.safe_dump({**model("x-a"), "metadata": {"name": "x-a", "namespace": "financial-inference"}})
    remote.person({f"{PATH}/{file}": foreign, KUSTOMIZATION: f"resources: [{file}]\n"})
    target, head = remote.target(), remote.head()
    for change in (lambda: target.apply([model("x-a"), model("x-b")]), lambda: target.delete("Model", "x-a")):
        with pytest.raises(ManifestError, match=f"{file}.*did not write"):
            change()
    assert remote.head() == head
    assert target.status().models == ()


def test_a_stray_file_of_the_same_name_is_not_overwritten(remote: GitRemote) -> None:
    remote.person({f"{PATH}/model-x-a.yaml": "notes: mine\n", KUSTOMIZATION: "resources: []\n"})
    with pytest.raises(ManifestError, match=r"model-x-a\.yaml.*did not write"):
        remote.target().apply([model("x-a")])


def test_a_plain_folder_of_manifests_is_not_turned_into_a_kustomization(remote: GitRemote) -> None:
    remote.person({f"{PATH}/deployment.yaml": "kind: Deployment\n"})
    head = remote.head()
    with pytest.raises(TargetError, match=r"GITOPS_PATH.*deployment\.yaml.*no longer see"):
        remote.target().apply([model("x-a")])
    assert remote.head() == head


@pytest.mark.parametrize(
    ("kustomization", "words"),
    [
        ("namePrefix: dev-\n", "namePrefix"),
        ("namespace: elsewhere\n", "elsewhere.*KUBERNETES_NAMESPACE is financial-inference"),
        ("resources: {a: b}\n", "list of names"),
        ("resources: [a\n", "not YAML"),
        ("- a\n", "list of names"),
        ("a: 1\n---\nb: 1\n", "list of names"),
    ],
)
def test_a_kustomization_that_cannot_be_used_is_refused(remote: GitRemote, kustomization: str, words: str) -> None:
    remote.person({KUSTOMIZATION: kustomization})
    head, target = remote.head(), remote.target()
    with pytest.raises(TargetError, match=f"GITOPS_PATH.*{words}|{words}"):
        target.apply([model("x-a")])
    assert remote.head() == head
    assert target.status().problems


@pytest.mark.parametrize(
    ("text", "wanted", "new"),
    [
        ("kind: K\n", ["a", "b"], "kind: K\nresources:\n- a\n- b\n"),
        ("", ["a"], "resources:\n- a\n"),
        ("resources: []  # none\nkind: K\n", ["a"], "resources:\n- a  # none\nkind: K\n"),
        ("resources:\nkind: K\n", ["a"], "resources:\n- a\nkind: K\n"),
        ("resources: [a, c]\n", ["a", "b", "c"], "resources:\n- a\n- b\n- c\n"),
        ("resources:\n- a  # one\n# two\n- c", ["a", "b", "c"], "resources:\n- a  # one\n# two\n- b\n- c\n"),
        ("resources:\n    - a\n    - c\nkind: K\n", ["a"], "resources:\n    - a\nkind: K\n"),
        ("resources:\n- z\n- a\nkind: K\n", ["m", "a"], "resources:\n- m\n- a\nkind: K\n"),
        ("kind: K\nresources:\n- a\nother: 1\n", [], "kind: K\nresources: []\nother: 1\n"),
    ],
)
def test_resources_are_edited_in_place(text: str, wanted: list[str], new: str) -> None:
    if wanted == ["m", "a"]:  # 'm' sorts before the removed 'z' but after the 'a' that stays
        new, wanted = "resources:\n- a\n- m\nkind: K\n", ["a", "m"]
    assert replace_resources(text, wanted) == new


def test_resources_that_cannot_be_edited_safely_are_refused() -> None:
    with pytest.raises(TargetError, match="plain block list"):
        replace_resources("resources: &r\n- a\nother: *r\n", ["a", "b"])


def test_the_rules_reach_over_to_what_the_overlay_holds(remote: GitRemote) -> None:
    target = remote.target()
    foreign = yaml.safe_dump({**model("y-a"), "metadata": {"name": "y-a", "namespace": "financial-inference"}})
    remote.person({f"{PATH}/mine.yaml": foreign, KUSTOMIZATION: "resources: [mine.yaml]\n"})
    target.apply(split("x", 70, 30))
    head = remote.head()
    refused = {
        "y-a and z share storageUri": model_manifest("z", "s3://models/y-a/"),
        "names nobody": experiment_manifest("n-experiment", default="nobody", weights={"nobody": 1}),
        "default of both x-experiment and n-experiment": experiment_manifest(
            "n-experiment", default="x-a", weights={"x-a": 1}
        ),
        "no cluster can read it": model_manifest("z", "file:///tmp/model"),
        "given twice": None,
    }
    for words, manifest in refused.items():
        with pytest.raises(ManifestError, match=words):
            target.apply([model("fine"), *([manifest] if manifest else [model("fine")])])
    with pytest.raises(ManifestError, match="for namespace elsewhere"):
        target.apply([model("z", namespace="elsewhere")])
    with pytest.raises(ManifestError, match="x-experiment names Model x-b"):
        target.delete("Model", "x-b")
    assert remote.head() == head
    target.apply([experiment_manifest("y-experiment", default="y-a", weights={"y-a": 1})])


def test_a_mounted_volume_is_where_a_cluster_can_read(remote: GitRemote) -> None:
    target = remote.target(volume=Path("/mnt/models"))
    target.apply([model_manifest("z", "/mnt/models/z-1")])
    with pytest.raises(ManifestError, match="no cluster can read it"):
        target.apply([model_manifest("z", "/mnt/models/../etc")])


def test_a_broken_file_of_ours_is_told_and_mended_by_the_next_apply(remote: GitRemote) -> None:
    target = remote.target()
    target.apply(split("x", 70, 30))
    file = f"{PATH}/experiment-x-experiment.yaml"
    remote.person({file: remote.show(file).replace("weight: 70", "weight: -1")})
    assert any("weight of x-a is -1" in problem for problem in target.status().problems)
    target.apply(split("x", 70, 30))
    assert weights_of(target, "x-experiment") == {"x-a": 70, "x-b": 30}


def test_an_object_taken_out_of_the_list_by_hand_comes_back_with_the_next_apply(remote: GitRemote) -> None:
    target = remote.target()
    target.apply([model("x-a")])
    remote.person({KUSTOMIZATION: "resources: []\n"})
    assert target.status().models == ()
    target.apply([model("x-a")])
    assert [item.name for item in target.status().models] == ["x-a"]
    assert remote.message().startswith("Model x-a: new")


def test_a_file_of_ours_that_is_not_listed_can_be_removed(remote: GitRemote) -> None:
    target = remote.target()
    target.apply([model("x-a")])
    remote.person({KUSTOMIZATION: "resources: []\n"})
    target.delete("Model", "x-a")
    assert remote.files() == ["kustomization.yaml"]
    assert remote.message().startswith("Tidy up model-x-a.yaml\n")


def test_the_overlay_may_be_the_root_of_the_repository(remote: GitRemote) -> None:
    target = remote.target(path=".")
    target.apply([model("x-a")])
    target.delete("Model", "x-a")
    assert git(remote.bare, "ls-tree", "--name-only", "main").splitlines() == ["README.md", "kustomization.yaml"]


def test_waiting_in_vain_names_the_path_and_the_commit(remote: GitRemote) -> None:
    target = remote.target()
    target.apply(split("x", 70, 30))
    commit = remote.head()[:12]
    with pytest.raises(NotReadyError, match=rf"waited 0.2 s.*{PATH}.*x-a: no answer from.*Argo CD or Flux.*{commit}"):
        target.wait_ready(["x-a", "x-experiment"], 0.2)
    status = target.status()
    assert not status.ready
    assert [(m.name, m.ready) for m in status.models] == [("x-a", False), ("x-b", False)]
    assert [(e.name, dict(e.weights), e.ready) for e in status.experiments] == [
        ("x-experiment", {"x-a": 70, "x-b": 30}, False)
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "../elsewhere"}, "GITOPS_PATH.*outside the repository"),
        ({"path": "/etc"}, "GITOPS_PATH.*outside the repository"),
        ({"path": "k8s/.git/hooks"}, "GITOPS_PATH.*outside the repository"),
        ({"branch": "--mirror"}, "GITOPS_BRANCH"),
        ({"branch": "a..b"}, "GITOPS_BRANCH"),
        ({"branch": "a b"}, "GITOPS_BRANCH"),
        ({"branch": "main.lock"}, "GITOPS_BRANCH"),
        ({"repository": "--upload-pack=touch /tmp/owned"}, "GITOPS_REPOSITORY"),
        ({"repository": "https://user:secret@example.org/r.git"}, "GITOPS_REPOSITORY: holds a password"),
    ],
)
def test_malformed_settings_are_named_at_once(remote: GitRemote, changes: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        remote.target(**changes)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("branch", ["main", "release/1.2", "feature_x-y"])
def test_ordinary_branches_are_accepted(remote: GitRemote, branch: str) -> None:
    git(remote.bare, "branch", "-f", "other", "main")
    remote.target(branch=branch)


@pytest.mark.parametrize(
    ("committed", "in_force", "at_most"),
    [(0.10, 0.05, 3e-4), (0.05, 0.10, 3e-4), (0.5, 0.3, 1e-12), (0.3, 0.5, 1e-12), (0.05, 0.0, 1e-12)],
)
def test_what_the_draws_of_an_arm_can_tell(committed: float, in_force: float, at_most: float) -> None:
    draws, level = DRAWS, probes._ALPHA[True]
    shares = {"a": 1 - committed, "b": committed}
    chances = [probes._chance({"a": draws - k, "b": k}, shares, draws) for k in range(draws + 1)]
    taken = np.array(chances) >= level
    missed = binom.pmf(np.arange(draws + 1), draws, in_force)[taken].sum()
    right = binom.pmf(np.arange(draws + 1), draws, committed)[taken].sum()
    assert missed < at_most
    assert right > 0.98


@pytest.mark.debian("kubernetes-client")
def test_the_committed_folder_renders(remote: GitRemote) -> None:
    target = remote.target()
    parameters = {"max_batch": "1e3", "flag": "yes", "zero": "010", "text": "a: b # c", "hex": "0x1f", "n": "~"}
    manifests = [*split("x", 70, 30), model("1e3", parameters=parameters)]
    target.apply(manifests)

    def render(name: str) -> list[dict[str, object]]:
        folder = remote.checkout(name) / PATH
        done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    rendered = {kind_and_name(document): document for document in render("full")}
    assert {key: document["spec"] for key, document in rendered.items()} == {
        kind_and_name(manifest): manifest["spec"] for manifest in manifests
    }
    target.delete("Experiment", "x-experiment")
    for name in ("x-a", "x-b", "1e3"):
        target.delete("Model", name)
    assert render("empty") == []
