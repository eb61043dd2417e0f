"""The message of a commit: what changed in the first line, then one line per object."""

from __future__ import annotations

from financial_assets.serving.gitops.overlay import Key, Overlay
from financial_assets.serving.manifests import Manifest

_LONGEST = 100
_ORDER = ("Experiment", "Model", "Server")


def describe(before: Overlay, after: Overlay) -> str:
    """The message of a commit that makes ``after`` of ``before``."""
    keys = sorted({*before.objects, *after.objects}, key=lambda key: (_ORDER.index(key[0]), key[1]))
    pairs = [(key, _manifest(before, key), _manifest(after, key)) for key in keys]
    changed = [(key, old, new) for key, old, new in pairs if old != new]
    titles = [_title(*change) for change in changed]
    details = [_detail(*change) for change in changed]
    if not changed:
        titles = [f"Tidy up {', '.join(sorted(after.changes))}"]
    subject = "; ".join(titles)
    if len(subject) > _LONGEST:
        subject = f"{titles[0]}; {len(titles) - 1} more" if len(titles) > 1 else titles[0]
    body = "\n".join(f"- {' '.join(line.split())}" for line in details)
    return f"{subject}\n\n{body}\n\nWritten by financial-assets.\n"


def _title(key: Key, before: Manifest | None, after: Manifest | None) -> str:
    kind, name = key
    if after is None:
        return f"{kind} {name}: removed"
    if kind == "Experiment" and (before is None or _weights(before) != _weights(after)):
        return f"{kind} {name}: weights {'/'.join(str(weight) for weight in _weights(after).values())}"
    return f"{kind} {name}: {'new' if before is None else 'changed'}"


def _detail(key: Key, before: Manifest | None, after: Manifest | None) -> str:
    kind, name = key
    if after is None:
        return f"{kind} {name}: removed"
    if kind == "Model":
        uri = after["spec"]["storageUri"]
        was = before["spec"]["storageUri"] if before else uri
        return f"Model {name}: {'' if before else 'new, '}storageUri {uri}{f' (was {was})' if was != uri else ''}"
    if kind == "Server":
        return f"Server {name}: {'new' if before is None else 'changed'}"
    was = f" (was {_shares(before)})" if before else ""
    mirror = after["spec"].get("mirror")
    shadow = f", mirror {mirror['name']} {mirror['percent']} %" if mirror else ""
    return f"Experiment {name}: {_shares(after)}{shadow}{was}"


def _weights(experiment: Manifest) -> dict[str, int]:
    return {item["name"]: item["weight"] for item in experiment["spec"]["candidates"]}


def _shares(experiment: Manifest) -> str:
    return ", ".join(f"{name} {weight}" for name, weight in _weights(experiment).items())


def _manifest(overlay: Overlay, key: Key) -> Manifest | None:
    entry = overlay.objects.get(key)
    return entry.manifest if entry else None
