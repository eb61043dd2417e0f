"""The alert rules as the Prometheus operator takes them: ``python deploy/prometheus/render_rule.py`` after each change.

``rules.yml`` beside this file is the only place where rules are written; the text that this prints into
``k8s/base/monitoring/prometheus-rule.yaml`` holds the same groups in a PrometheusRule object.
"""

from __future__ import annotations

from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "k8s" / "base" / "monitoring" / "prometheus-rule.yaml"
HEADER = "# Made by deploy/prometheus/render_rule.py from rules.yml beside it; change the rules there.\n"


def render() -> str:
    """The PrometheusRule as YAML text."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "financial-assets", "namespace": "financial-mlops-pytorch"},
        "spec": yaml.safe_load((HERE / "rules.yml").read_text()),
    }
    return HEADER + yaml.safe_dump(rule, sort_keys=False, width=1000)


if __name__ == "__main__":
    TARGET.write_text(render())
