"""Check a decision from prices to weights: python tools/verify.py FOLDER [--key PUBLIC_KEY]

FOLDER is what `financial-assets passport` wrote, or a state folder whose prediction log is SQLite. Only Python and
NumPy are needed, and nothing of the package that is checked. A line per link says whether it holds; the exit status is
0 if all do, 1 if one is broken, 2 if none is but something cannot be shown. --key is the owner's public key, known from
elsewhere: what is not signed by it is then broken. docs/passport.md says what the check shows and what it cannot.
"""

import argparse
import base64
import functools
import hashlib
import json
import math
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from statistics import NormalDist

import numpy as np

SIGNED = ("decision", "approval", "weights")
EPS = float(np.finfo(float).eps)  # where the log loss is cut off
SCORES = {
    "accuracy": lambda p, up: ((p > 0.5) == up).astype(float),
    "brier": lambda p, up: -((p - up) ** 2),
    "log_loss": lambda p, up: np.where(up, np.log(np.clip(p, EPS, 1 - EPS)), np.log1p(-np.clip(p, EPS, 1 - EPS))),
}


class Broken(Exception):
    """A link does not hold; the message says where and what differs."""


def need(holds, message):
    if not holds:
        raise Broken(message)


def sha(content):
    return hashlib.sha256(content).hexdigest()


def dumped(values):
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def text_of(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def lines_of(content):
    need(content[-1:] in (b"", b"\n"), "its last line does not end")
    return content.decode().split("\n")[:-1]


# Ed25519 by RFC 8032, section 5.1, in extended coordinates; signatures as minisign writes them.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar, base):
    result = (0, 1, 1, 0)
    while scalar:
        result, base, scalar = add(result, base) if scalar & 1 else result, add(base, base), scalar >> 1
    return result


def point(data):
    y, sign = int.from_bytes(data, "little") & (2**255 - 1), data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT % P
    need(y < P and x * x % P == square and (x or not sign), "a signature holds what is not a point of the curve")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


@functools.cache
def is_signed(public, message, signature):
    scalar = int.from_bytes(signature[32:], "little")
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left = times(scalar, point((4 * pow(5, -1, P) % P).to_bytes(32, "little")))
    right = add(point(signature[:32]), times(hashed, point(public)))
    return scalar < L and all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


def check_signature(record, line, minisig, wanted):
    if "signer" not in record:
        need(not wanted and not minisig, "it is not signed")
        return "?it is not signed: SIGNING_KEY was not set"
    key, (_, first, comment, second) = base64.b64decode(record["signer"]), lines_of(minisig.encode())
    body, around = base64.b64decode(first, validate=True), base64.b64decode(second, validate=True)
    shape = ["untrusted comment: signature of a record of financial-assets", base64.b64encode(body).decode()]
    shape += [f"trusted comment: {comment[17:]}", base64.b64encode(around).decode()]
    need(text_of(shape) == minisig.encode() and body[:2] == b"ED", "its signature is not as it was written")
    need(body[2:10] == key[2:10] and wanted in (None, record["signer"]), f"it is signed by the key {record['signer']}")
    need(is_signed(key[10:], hashlib.blake2b(line.encode()).digest(), body[10:]), "its signature is of another record")
    need(is_signed(key[10:], body[10:] + comment[17:].encode(), around), "its trusted comment is not what was signed")
    return f"signed by {record['signer']}" + ("" if wanted else ", as it says: compare that with the owner's key")


def check_chain(lines, chain):
    previous = "0" * 64
    for number, line in enumerate(lines, 1):
        said = json.loads(line)
        need(dumped(said) == line, f"record {number} is not as it was written")
        need(said["number"] == number and said["previous"] == previous, f"record {number} does not follow the last")
        previous = sha(line.encode())
        chain.append({**said, "digest": previous})
    need(chain and chain[0]["kind"] == "begin", "its first record is missing")
    old = ", ".join(f"{count} of {name}" for name, count in chain[0]["before"].items() if count)
    said = f"{len(lines)} records since {chain[0]['at']}, head {previous[:12]}"
    return f"?{said}; before the chain, and shown only as they were when it began: {old}" if old else said


def check_rows(kind, group, chain, rows, wanted, span):
    """Rows against their records: of wanted models or experiments (None: all) in the sessions of a span."""
    width, seen, columns, cells = 0, 0, [], {}
    for record in chain:
        if record["kind"] == f"{kind} form":  # a later form has more columns behind those of the earlier one
            columns = columns or record["columns"]
            width = len(record["columns"])
            for row in rows if not cells else ():
                cells.setdefault((row[columns.index("session")], row[columns.index(group)]), []).append(row)
        if record["kind"] == kind and span[0] < record["subject"] <= span[1]:
            ids = {one for first, last in record["ids"] for one in range(first, last + 1)}
            for name in {*record["of"]} & (wanted or {*record["of"]}):
                (count, digest), where = record["of"][name], f"{record['subject']}, {name}"
                found = [dumped(row[:width]) for row in cells.get((record["subject"], name), ()) if row[0] in ids]
                need(len(found) == count, f"{where}: {len(found)} rows; {count} were sealed")
                need(sha(text_of(found)) == digest, f"{where}: a row is not what was sealed")
                seen += count
    need(seen == len(rows), f"{len(rows)} rows are here, of which {seen} are sealed")
    return f"{seen:,} rows are those that were sealed"


def check_history(lines, sealed):
    if sealed is None:
        return "?which state of the price store it was taken on is not known"
    entries, count = [json.loads(line) for line in lines], sealed["change"]
    follow = all(a["new_hash"] == b["old_hash"] for a, b in zip(entries, entries[1:], strict=False))
    need(follow and len(entries) >= count, f"its changes do not follow each other, or {count} are not there")
    need(sha(text_of(lines[:count])) == sealed["history"], "a change is not what was sealed")
    need(entries[count - 1]["new_hash"] == sealed["content"], f"change {count} left other prices than were sealed")
    return f"{count} changes up to the content {sealed['content'][:12]}"


def check_closes(prices, sealed):
    days = np.array(prices["sessions"], "datetime64[D]").astype("<i8")
    closes, traded = np.array(prices["closes"]).astype("<f4"), np.array(prices["traded"]).astype(np.uint8)
    need(closes.astype(float).tolist() == prices["closes"] and traded.tolist() == prices["traded"], "not as written")
    found = sha(text_of(prices["tickers"]) + days.tobytes() + closes.tobytes() + traded.tobytes())
    need(found == sealed["closes"], f"they are {found[:12]}; the decision was taken on {sealed['closes'][:12]}")
    return f"{len(prices['tickers'])} tickers in {len(days)} sessions"


def check_model(model, digest, chain, files, starts_after):
    if digest is None:
        return "?its files were not known when the decision was sealed"
    record = next((one for one in chain if one["digest"] == digest and one["subject"] == model), None)
    need(record is not None, "its record is not in the chain")
    names = {"model-card.json": "card_sha256", "model.onnx": "onnx_sha256"}
    for name, field in names.items():
        content = files.get(f"models/{model}/{name}")
        need(content is None or sha(content) == record[field], f"{name} is not what was sealed ({record[field]})")
    need(record["data_cutoff"] <= starts_after, f"it has learned from sessions up to {record['data_cutoff']}")
    there = all(f"models/{model}/{name}" in files for name in names)
    return ("" if there else "?its files are not here; ") + f"it has learned from sessions up to {record['data_cutoff']}"


def check_evidence(evidence, plan, decision):
    guards = [f"guard {name}" for name in decision.get("standing", {"guards": ()})["guards"] if name != "accuracy"]
    names = ["main", "accuracy", *(f"against {name}" for name in plan["must_beat"]), *guards]
    need(names == [one["name"] for one in evidence][: len(names)], "its series are not those of the plan")
    parts = [np.array(one["sessions"], "datetime64[D]").astype("<i8").tobytes() for one in evidence]
    values = [np.array(one["differences"], "<f8").tobytes() for one in evidence]
    digest = sha(b"".join(day + value for day, value in zip(parts, values, strict=True)))
    need(digest == decision["evidence_digest"], "a daily difference is not one that was decided on")
    return f"{len(evidence)} daily series up to {decision['as_of']}"


def check_scores(plan, evidence, chain, rows, prices):
    """The daily means of the differences of scores, from logged probabilities and closes alone."""
    columns = next(record["columns"] for record in chain if record["kind"] == "direct form")
    rows = [row for row in (dict(zip(columns, row, strict=False)) for row in rows) if row["status"] == "ok"]
    said, tables = {(row["model"], row["ticker"], row["session"]): row["probability_up"] for row in rows}, []
    for model in (plan["challenger"], plan["champion"]):
        cells = [[said.get((model, ticker, day)) for day in prices["sessions"]] for ticker in prices["tickers"]]
        tables.append(np.array(cells, float))
    traded = np.array(prices["traded"], bool)
    up = np.diff(np.log(np.array(prices["closes"], float)), axis=1, append=np.nan) > 0
    known = traded & np.roll(traded, -1, axis=1) & ~np.isnan(tables[0]) & ~np.isnan(tables[1])
    known[:, -1:] = False
    has, metric = known.any(axis=0), plan["test"]["metric"]
    for series, name in ((evidence[0], metric), (evidence[1], "accuracy")):
        if name in SCORES:
            differences = np.where(known, SCORES[name](tables[0], up) - SCORES[name](tables[1], up), 0.0).sum(axis=0)
            same = [day for day, one in zip(prices["sessions"], has, strict=True) if one] == series["sessions"]
            means = differences[has] / known.sum(axis=0)[has]
            need(same and np.allclose(means, series["differences"], 0, 1e-9), f"they give another {name}")
    more = "" if metric in SCORES else f"?{metric}, which decides, needs more than closes and is not computed; "
    return f"{more}{metric + ' and ' if metric in SCORES else ''}accuracy of each day are recomputed"


def standardised(days, margin, lags, corrected):
    """Standard error of the mean, and z of its advantage over the margin (docs/ab-testing.md, planned looks)."""
    n, centred = len(days), days - days.mean()
    if n < 2 or np.ptp(days) <= 1e-12:
        return 0.0, 0.0
    rho = np.sum(centred[1:] * centred[:-1]) / np.sum(centred**2)
    rho = min(max(rho + (1 + 4 * rho) / n, -0.97), 0.97)
    deviation, freedom = days.std(ddof=1) * math.sqrt(max(1.0, (1 + rho) / (1 - rho))), n - 1
    if lags:
        freedom = max(2, int(0.41 * n ** (2 / 3)))
        angles = math.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(1, freedom + 1))
        deviation = math.sqrt(np.mean((days @ np.cos(angles)) ** 2) * 2 / n)
    t = (days.mean() - margin) / (deviation / math.sqrt(n))
    if corrected:
        count = n / max((deviation / days.std(ddof=1)) ** 2, 1.0 + lags)
        part = min(math.copysign(np.mean(centred**3) / days.std() ** 3, t * np.mean(centred**3)), 0) / math.sqrt(count)
        size = min(abs(t), -3 / part) if part < -1e-12 else abs(t)
        t = math.copysign(max(size + part * size**2 / 3 + part**2 * size**3 / 27 + part / 6, 0.0), t)
    # Student's tail: the cosine to the power of the degrees of freedom minus 1, from the angle of t to a right angle.
    nodes, weights = np.polynomial.legendre.leggauss(400)
    half = (math.pi / 2 - math.atan(abs(t) / math.sqrt(freedom))) / 2
    tail = half * np.sum(weights * np.sin(half * (1 + nodes)) ** (freedom - 1))
    tail *= math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return deviation / math.sqrt(n), math.copysign(min(-NormalDist().inv_cdf(tail) if tail > 0 else 38, 38), t)


def check_statistics(plan, evidence, decision):
    """Estimate and planned looks from the daily differences, and the verdict from what the decision says of them."""
    days, test, looks = np.array(evidence[0]["differences"], float), plan["test"], decision["looks"]
    need(len(days) == decision["days"], f"{len(days)} days; the decision counts {decision['days']}")
    need(not len(days) or abs(days.mean() - decision["estimate"]) < 1e-9, f"the mean is {days.mean() if len(days) else 0}")
    corrected, lags = plan.get("most_skewness", 0) > 0, plan.get("lags", 0)
    for look, day, boundary in zip(looks, plan["looks"], plan["boundaries"], strict=False):
        need((look["day"], look["boundary"]) == (day, boundary), f"a look on day {look['day']} was not planned like this")
        if plan.get("rule", 1) > 1:
            z = standardised(days[:day], test["margin"], lags, corrected)[1]
            won = look["outcome"] in ("promote", "held", "uneven")
            need(abs(z - look["z"]) < 1e-6 and won == (z >= boundary), f"z is {z:.6f} on day {day}, not {look['z']:.6f}")
    need(decision["alpha_spent"] == (plan["spent"][len(looks) - 1] if looks else 0), "other error probability was spent")
    won = bool(looks) and (looks[-1].get("outcome") == "promote" or plan.get("rule", 1) == 1)
    fired = [rail["action"] for rail in decision["guardrails"] if rail["fired"]]
    if decision["action"] == "promote":
        need(not fired and (won or decision["standing"]["sequence"]), "nothing in it promotes")
    harm = decision["always_on"]["high"] <= -test["margin"] or (looks and looks[-1].get("outcome") == "harm")
    need(decision["action"] != "rollback" or "rollback" in fired or harm, "nothing in it rolls back")
    error = standardised(days, 0.0, lags, corrected=False)[0]
    said = f"mean {days.mean():.6g}, standard error {error:.3g}, {len(looks)} looks" if len(days) else "no day yet"
    return f"{decision['action']}: {said}" if plan.get("rule", 1) > 1 else f"?{said}; z of the first rule is not computed"


def check_seal(seal, decision, plan_text, chain):
    need(seal["plan"] == decision["plan_digest"] == sha(plan_text), "the plan is not the one that was registered")
    need(seal["plan_record"] in (None, *(one["digest"] for one in chain if one["subject"] == seal["plan"])), "no plan")
    need(all(seal[name] == decision[name] for name in ("as_of", "action", "experiment")), "it seals another decision")
    need(seal["weights_after"] == decision["weights"], "it seals other weights")
    weights, model = decision["weights"], decision["challenger"]
    moves, action = "question" not in decision, decision["action"]
    need(not moves or action != "promote" or weights == {model: 100}, "a promotion gives all requests to the challenger")
    need(not moves or action != "rollback" or model not in weights, "a rollback leaves the challenger no requests")
    later = [one for one in chain if one["kind"] == "weights" and seal["subject"] in one["decisions"]]
    for one in later:
        arms = {arm["model"]: arm["weight"] for arm in one["arms"] if arm["weight"]}
        need(len(one["decisions"]) > 1 or arms == weights, f"epoch {one['epoch']} has the weights {arms}")
    return f"weights {weights}" + "".join(f", opened as epoch {one['epoch']}" for one in later)


def passport(files, wanted, link):
    """The links of an exported passport, from prices to weights."""
    lines, chain, others = [], [], sorted({*files} - {"SHA256SUMS"})

    def read(name):
        text = files[name].decode()
        need(not name.endswith("es.json") or dumped(json.loads(text)) == text, f"{name} is not as it was written")
        return json.loads(text)

    def rows(name):
        found = [(json.loads(line), line) for line in lines_of(files[name])]
        need(all(dumped(row) == line for row, line in found), f"a row of {name} is not as it was written")
        return [row for row, _ in found]

    def check_files():
        listed = dict(reversed(line.split("  ", 1)) for line in lines_of(files["SHA256SUMS"]))
        wrong = sorted(name for name in {*others, *listed} if name not in files or sha(files[name]) != listed.get(name))
        need(not wrong, f"{', '.join(wrong)}: missing, not listed, or of another digest")
        need(text_of(f"{listed[name]}  {name}" for name in others) == files["SHA256SUMS"], "SHA256SUMS: not as written")
        return f"{len(others)} files have the digests that are listed"

    def signatures():
        known, said = {}, []
        for line, record in zip(lines, chain, strict=True):
            if record["kind"] in SIGNED and record["number"] >= seal()["number"]:
                name = f"signed/{record['number']:06d}.json"
                if "signer" in record:
                    known[name] = known[f"{name}.minisig"] = True
                    need(files[name] == line.encode(), f"{name} is not the record of the chain")
                minisig = files[f"{name}.minisig"].decode() if "signer" in record else ""
                said.append(check_signature(record, line, minisig, wanted))
        need(known.keys() == {name for name in files if name.startswith("signed/")}, "a signed record is not in the chain")
        return sorted(said)[0]

    def seal():
        return next(one for one in chain if one["kind"] == "decision" and one["subject"] == sha(files["decision.json"]))

    def prices():
        need({*(found := read("prices.json"))} == {"tickers", "sessions", "closes", "traded"}, "prices.json: other fields")
        return found

    link("files", check_files)
    link("chain", lambda: check_chain(lines.extend(lines_of(files["chain.jsonl"])) or lines, chain))
    link("signatures", signatures)
    plan, decision = (lambda: read("plan.json")), (lambda: read("decision.json"))
    link("price store", lambda: check_history(lines_of(files["price-history.jsonl"]), seal()["prices"]["store"]))
    link("closes", lambda: check_closes(prices(), seal()["prices"]))
    ...
