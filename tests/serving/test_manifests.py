from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_assets.errors import ManifestError
from financial_assets.serving.manifest_sets import validate_set
from financial_assets.serving.manifests import (
    API_VERSION,
    EXPERIMENT_NAME,
    NAMESPACE,
    experiment_manifest,
    is_experiment,
    model_manifest,
    model_name,
    parse_experiment,
    validate,
)
from tests.serving.serving_objects import server_manifest

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda n: not is_experiment(n))
weights = st.dictionaries(names, st.integers(0, 10_000), min_size=1, max_size=6).filter(lambda w: sum(w.values()) > 0)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


def test_a_model_says_where_its_artefact_is_and_what_can_run_it() -> None:
    manifest = model_manifest(model_name("baseline", 3), "file:///models/3", parameters={"max_batch": "64"})
    assert manifest == {
        "apiVersion": "mlops.seldon.io/v1alpha1",
        "kind": "Model",
        "metadata": {
            "name": "baseline-predictor-v3",
            "namespace": "financial-inference",
            "labels": {"app.kubernetes.io/managed-by": "financial-assets"},
        },
        "spec": {
            "storageUri": "file:///models/3",
            "requirements": ["financial-onnx"],
            "parameters": [{"name": "max_batch", "value": "64"}],
        },
    }


@given(weights, st.data())
def test_an_experiment_lists_its_default_first_and_keeps_every_weight(
    split: dict[str, int], data: st.DataObject
) -> None:
    default = data.draw(st.sampled_from(sorted(split)))
    manifest = experiment_manifest(default=default, weights=split)
    assert manifest["spec"]["candidates"][0]["name"] == default
    spec = parse_experiment(manifest)
    assert dict(spec.weights) == split
    assert (spec.name, spec.default, spec.mirror) == (EXPERIMENT_NAME, default, None)


@given(weights)
def test_a_split_that_sums_to_zero_is_refused(split: dict[str, int]) -> None:
    with pytest.raises(ManifestError, match="sum to 0"):
        experiment_manifest(default=next(iter(split)), weights=dict.fromkeys(split, 0))


@pytest.mark.parametrize("weight", [-1, 2**31, 0.5, "70", None, True, float("nan")])
def test_a_weight_is_a_whole_number_that_the_gateway_can_hold(weight: Any) -> None:
    with pytest.raises(ManifestError, match=r"weight of b.*whole number"):
        experiment_manifest(default="a", weights={"a": 1, "b": weight})


def test_weights_together_fit_the_gateway() -> None:
    with pytest.raises(ManifestError, match="sum to"):
        experiment_manifest(default="a", weights=dict.fromkeys("abc", 2**31 - 1))


@pytest.mark.parametrize("name", ["A", "a.b", "a_b", "-a", "a-", "", "a" * 64, "a\n", "ä", 7, None])
@pytest.mark.parametrize("place", ["model", "candidate", "mirror", "namespace"])
def test_names_are_plain_wherever_they_stand(name: Any, place: str) -> None:
    make = {
        "model": lambda: model_manifest(name, "file:///m"),
        "namespace": lambda: model_manifest("a", "file:///m", namespace=name),
        "candidate": lambda: experiment_manifest(default=name, weights={name: 1}),
        "mirror": lambda: experiment_manifest(default="a", weights={"a": 1}, mirror=(name, 10)),
    }[place]
    with pytest.raises(ManifestError, match="lower-case letters, digits and hyphens"):
        make()


@pytest.mark.parametrize("percent", [-1, 101, 1.5, "10", None, True])
def test_a_mirror_gets_a_percentage(percent: Any) -> None:
    with pytest.raises(ManifestError, match=r"mirror\.percent"):
        experiment_manifest(default="a", weights={"a": 1}, mirror=("b", percent))


def test_the_default_must_be_a_candidate_and_none_may_appear_twice() -> None:
    with pytest.raises(ManifestError, match="must be the first candidate"):
        experiment_manifest(default="c", weights={"a": 1, "b": 1})
    with pytest.raises(ManifestError, match="a appears twice"):
        experiment_manifest(default="a", weights={"a": 1}, mirror=("a", 10))
    doubled = experiment_manifest(default="a", weights={"a": 1, "b": 1})
    doubled["spec"]["candidates"].append({"name": "b", "weight": 1})
    with pytest.raises(ManifestError, match="b appears twice"):
        validate(doubled)


@given(weights)
def test_an_experiment_without_a_default_keeps_the_order_and_leaves_the_field_out(split: dict[str, int]) -> None:
    manifest = experiment_manifest("high-experiment", default=None, weights=split)
    assert "default" not in manifest["spec"]
    spec = parse_experiment(manifest)
    assert (spec.default, list(spec.weights.items())) == (None, list(split.items()))
    with pytest.raises(ManifestError, match="default is None"):
        validate({**manifest, "spec": {**manifest["spec"], "default": None}})


def test_many_experiments_may_share_candidates_but_one_has_them_as_default() -> None:
    a, b = model_manifest("a", "file:///m/a"), model_manifest("b", "file:///m/b")
    split = {"a": 1, "b": 1}
    base = experiment_manifest(default="a", weights=split)
    regimes = [experiment_manifest(f"{name}-experiment", default=None, weights=split) for name in ("high", "low")]
    validate_set([a, b, base, *regimes])
    with pytest.raises(ManifestError, match="default of both"):
        validate_set([a, b, base, experiment_manifest("mid-experiment", default="a", weights=split)])


def test_model_and_experiment_names_cannot_be_confused() -> None:
    with pytest.raises(ManifestError, match="kept for experiments"):
        model_manifest("some-experiment", "file:///m")
    with pytest.raises(ManifestError, match="must end in -experiment"):
        experiment_manifest("split", default="a", weights={"a": 1})
    assert is_experiment(EXPERIMENT_NAME)
    assert is_experiment(f"{EXPERIMENT_NAME}.experiment")
    assert not is_experiment("baseline-predictor-v1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"storageUri": ""}, "storageUri"),
        ({"storageUri": 3}, "storageUri"),
        ({"requirements": ["sklearn"]}, "must include financial-onnx"),
        ({"requirements": "financial-onnx"}, "must include financial-onnx"),
        ({"parameters": {"a": "b"}}, "list of"),
        ({"parameters": [{"name": "a", "value": 1}]}, "text values"),
        ({"parameters": [{"name": "a", "value": "1"}] * 2}, "twice"),
        ({"replicas": 0}, "replicas"),
        ({"storageURI": "file:///m"}, "unknown spec field storageURI"),
    ],
)
def test_a_malformed_model_is_refused_by_field(change: dict[str, Any], message: str) -> None:
    manifest = model_manifest("a", "file:///m")
    manifest["spec"].update(change)
    with pytest.raises(ManifestError, match=message):
        validate(manifest)


def test_a_server_offers_our_capability() -> None:
    manifest = server_manifest("mlserver-financial")
    assert manifest["spec"]["extraCapabilities"] == ["financial-onnx"]
    manifest["spec"]["extraCapabilities"] = "financial-onnx"
    with pytest.raises(ManifestError, match="capabilities"):
        validate(manifest)


def test_a_set_is_checked_as_a_whole() -> None:
    a, b = model_manifest("a", "file:///m/a"), model_manifest("b", "file:///m/b")
    split = experiment_manifest(default="a", weights={"a": 1, "b": 1})
    validate_set([a, b, split])
    with pytest.raises(ManifestError, match="Model a is given twice"):
        validate_set([a, a])
    with pytest.raises(ManifestError, match="share storageUri"):
        validate_set([a, model_manifest("b", "file:///m/a/")])
    with pytest.raises(ManifestError, match="one namespace"):
        validate_set([a, model_manifest("b", "file:///m/b", namespace="other")])
    with pytest.raises(ManifestError, match="names b, which no Model"):
        validate_set([a, split])
    validate_set([a, split], closed=False)
    other = experiment_manifest("other-experiment", default="a", weights={"a": 1})
    with pytest.raises(ManifestError, match="default of both"):
        validate_set([a, b, split, other])
    shadowed = experiment_manifest(default="a", weights={"a": 1}, mirror=("ghost", 5))
    with pytest.raises(ManifestError, match="ghost"):
        validate_set([a, shadowed])


@given(junk)
def test_whatever_is_no_manifest_is_refused_in_words(document: object) -> None:
    with pytest.raises(ManifestError):
        validate(document)


@given(st.sampled_from(["Model", "Experiment", "Server"]), junk, junk)
def test_no_junk_inside_a_manifest_escapes_the_rules(kind: str, metadata: object, spec: object) -> None:
    with pytest.raises(ManifestError):
        validate({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})


@given(st.sampled_from(["default", "candidates", "mirror", "resourceType", "more"]), junk)
def test_no_junk_in_an_experiment_field_causes_another_error(field: str, value: object) -> None:
    manifest = experiment_manifest(default="a", weights={"a": 1, "b": 2}, mirror=("c", 10))
    before = copy.deepcopy(manifest)
    manifest["spec"][field] = value
    try:
        accepted = validate(manifest)
    except ManifestError:
        return
    assert accepted == before or field in {"mirror"}
    assert accepted["metadata"]["namespace"] == NAMESPACE
