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
import itertools
import json
import math
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from statistics import NormalDist

import numpy as np

SIGNED, SUMS = ("decision", "approval", "weights"), "SHA256SUMS"
EPS = float(np.finfo(float).eps)  # where the log loss is cut off
NODES, WEIGHTS = np.polynomial.legendre.leggauss(120)
SCORES = {
    "accuracy": lambda p, up: (p > 0.5) == up,
    "brier": lambda p, up: -((p - up) ** 2),
    "log_loss": lambda p, up: np.where(up, np.log(np.clip(p, EPS, 1 - EPS)), np.log1p(-np.clip(p, EPS, 1 - EPS))),
}
dumped = functools.partial(json.dumps, sort_keys=True, separators=(",", ":"))


def need(holds, message):
    if not holds:
        raise AssertionError(message)


def sha(content):
    return hashlib.sha256(content).hexdigest()


def text_of(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def lines_of(content):
    return content.decode().split("\n")[:-1]


# Ed25519 by RFC 8032, section 5.1, in extended coordinates; signatures as minisign writes them.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    return (b - a) * (d - c) % P, (d + c) * (b + a) % P, (d - c) * (d + c) % P, (b - a) * (b + a) % P


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


def check_signature(record, line, text, minisig, wanted):
    if "signer" not in record:
        need(not wanted and not minisig, "it is not signed")
        return "?it is not signed: SIGNING_KEY was not set"
    need(text == line, "what was signed is not the record of the chain")
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
    for number, line in enumerate(lines, 1):
        said = json.loads(line)
        need(dumped(said) == line, f"record {number} is not as it was written")
        follows = (said["number"], said["previous"]) == (number, chain[-1]["digest"] if chain else "0" * 64)
        need(follows, f"record {number} does not follow the one before it")
        chain.append({**said, "digest": sha(line.encode())})
    need(chain and chain[0]["kind"] == "begin", "its first record is missing")
    old = ", ".join(f"{count} of {name}" for name, count in chain[0]["before"].items() if count)
    said = f"{len(lines)} records since {chain[0]['at']}, head {chain[-1]['digest'][:12]}"
    return f"?{said}; before the chain, and shown only as they were when it began: {old}" if old else said


def ids_in(record):
    return {one for first, last in record["ids"] for one in range(first, last + 1)}


def check_rows(kind, group, chain, rows, wanted, span):
    """Rows against their records: of wanted models or experiments (None: all) in the sessions of a span."""
    width, seen, cells = 0, 0, {}
    for record in chain:
        if record["kind"] == f"{kind} form":  # a later form has more columns behind those of the earlier one
            width, places = len(record["columns"]), [record["columns"].index(name) for name in ("session", group)]
            for row in rows if not cells else ():
                cells.setdefault(tuple(row[place] for place in places), []).append(row)
        if record["kind"] == kind and span[0] < record["subject"] <= span[1]:
            ids = ids_in(record)
            for name in {*record["of"]} & (wanted or {*record["of"]}):
                (count, digest), where = record["of"][name], f"{record['subject']}, {name}"
                found = [dumped(row[:width]) for row in cells.get((record["subject"], name), ()) if row[0] in ids]
                need(len(found) == count, f"{where}: {len(found)} rows; {count} were sealed")
                need(sha(text_of(found)) == digest, f"{where}: a row is not what was sealed")
                seen += count
    need(seen == len(rows), f"{len(rows)} rows are here, of which {seen} are sealed")
    return f"{seen:,} rows are those that were sealed"


def check_history(entries, sealed):
    if sealed is None:
        return "?the state of the price store was not known"
    count, pairs = sealed["change"], itertools.pairwise(entries)
    follow = all(one["new_hash"] == other["old_hash"] for one, other in pairs) and len(entries) >= count
    need(follow, f"its changes do not follow each other, or {count} are not there")
    need(sha(text_of(map(dumped, entries[:count]))) == sealed["history"], "a change is not what was sealed")
    need(entries[count - 1]["new_hash"] == sealed["content"], f"change {count} left other prices than were sealed")
    return f"{count} changes up to the content {sealed['content'][:12]}"


def check_closes(prices, sealed):
    days, closes = np.array(prices["sessions"], "datetime64[D]").astype("<i8"), np.array(prices["closes"], "<f4")
    traded = np.array(prices["traded"], np.uint8)
    back = {"closes": closes.astype(float).tolist(), "traded": traded.tolist()}
    need(dumped({**prices, **back}) == dumped(prices) and len(prices) == 4, "prices.json is not as it was written")
    found = sha(text_of(prices["tickers"]) + days.tobytes() + closes.tobytes() + traded.tobytes())
    need(found == sealed["closes"], f"they are {found[:12]}; the decision was taken on {sealed['closes'][:12]}")
    return f"{len(prices['tickers'])} tickers in {len(days)} sessions"


def check_model(model, digest, chain, files, starts_after):
    record = next((one for one in chain if one["digest"] == digest and one["subject"] == model), None)
    need(record or not digest, "its record is not in the chain")
    names = {f"models/{model}/model-card.json": "card_sha256", f"models/{model}/model.onnx": "onnx_sha256"}
    if not record or not names.keys() <= files.keys():
        return "?its files were not known when the decision was sealed, or are not here"
    for name, field in names.items():
        need(sha(files[name]) == record[field], f"{name} is not what was sealed ({record[field]})")
    need(record["data_cutoff"] <= starts_after, f"it has learned from sessions up to {record['data_cutoff']}")
    return f"its files are those that were sealed; it has learned from sessions up to {record['data_cutoff']}"


def check_evidence(plan, decision, evidence, chain, rows, prices):
    """The daily series against their digest; those in SCORES from logged probabilities and closes alone."""
    guards = [f"guard {name}" for name in (decision.get("standing") or {"guards": ()})["guards"] if name != "accuracy"]
    names = ["main", "accuracy", *(f"against {name}" for name in plan["must_beat"]), *guards]
    need(names == [one["name"] for one in evidence][: len(names)], "its series are not those of the plan")
    parts = [(np.array(one["sessions"], "datetime64[D]"), np.array(one["differences"], "<f8")) for one in evidence]
    digest = sha(b"".join(days.astype("<i8").tobytes() + values.tobytes() for days, values in parts))
    need(digest == decision["evidence_digest"], "a daily difference is not one that was decided on")
    columns = next((record["columns"] for record in chain if record["kind"] == "direct form"), ())
    rows = [row for row in (dict(zip(columns, row, strict=False)) for row in rows) if row["status"] == "ok"]
    said, tables = {(row["model"], row["ticker"], row["session"]): row["probability_up"] for row in rows}, []
    for model in (plan["challenger"], plan["champion"]):
        cells = [[said.get((model, ticker, day)) for day in prices["sessions"]] for ticker in prices["tickers"]]
        tables.append(np.array(cells, float))
    up = np.diff(np.log(np.array(prices["closes"], float)), axis=1, append=np.nan) > 0
    traded = np.array(prices["traded"], bool)
    known = traded & np.roll(traded, -1, axis=1) & ~np.isnan(tables[0] + tables[1])
    known[:, -1:] = False
    has, metric = known.any(axis=0), plan["test"]["metric"]
    for (days, values), name in zip(parts, (metric, "accuracy"), strict=False):
        if name in SCORES:
            one, other = (np.asarray(SCORES[name](table, up), float) for table in tables)
            means = np.where(known, one - other, 0).sum(axis=0)[has] / known.sum(axis=0)[has]
            same = np.array_equal(np.array(prices["sessions"], "datetime64[D]")[has], days)
            need(same and np.allclose(means, values, 0, 1e-9), f"rows and closes give another {name}")
    more = "" if metric in SCORES else f"?{metric}, which decides, needs more than closes and is not recomputed; "
    return f"{more}{len(parts)} daily series; {metric if metric in SCORES else 'accuracy'} follows from rows and closes"


def standardised(days, margin, corrected):
    """Standard error of the mean, and z of its advantage over the margin (docs/ab-testing.md, planned looks)."""
    n, centred = len(days), days - days.mean()
    if n < 2 or np.ptp(days) <= 1e-12:
        return 0.0, 0.0
    rho = np.sum(centred[1:] * centred[:-1]) / np.sum(centred**2)
    rho = min(max(rho + (1 + 4 * rho) / n, -0.97), 0.97)
    error, freedom = days.std(ddof=1) * math.sqrt(max(1.0, (1 + rho) / (1 - rho)) / n), n - 1
    t = (days.mean() - margin) / error
    if corrected:
        count = min(n, days.var(ddof=1) / error**2)
        part = min(math.copysign(1, t) * np.mean(centred**3) / days.std() ** 3, 0) / math.sqrt(count)
        size = min(abs(t), -3 / part) if part < -1e-12 else abs(t)
        t = math.copysign(max(size + part * size**2 / 3 + part**2 * size**3 / 27 + part / 6, 0.0), t)
    # Student's tail: the cosine to the power of the degrees of freedom minus 1, from the angle of t to a right angle.
    half = (math.pi / 2 - math.atan(abs(t) / math.sqrt(freedom))) / 2
    tail = half * np.sum(WEIGHTS * np.sin(half * (1 + NODES)) ** (freedom - 1)) / math.sqrt(math.pi)
    tail *= math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    return error, math.copysign(min(-NormalDist().inv_cdf(tail) if tail > 0 else 38, 38), t)


def check_statistics(plan, evidence, decision):
    """Estimate and planned looks from the daily differences, and the action from what the decision says of them."""
    days, margin, looks = np.array(evidence[0]["differences"], float), plan["test"]["margin"], decision["looks"]
    mean, corrected = days.mean() if len(days) else 0.0, plan.get("most_skewness", 0) > 0
    need(len(days) == decision["days"] and abs(mean - (decision["estimate"] or 0)) < 1e-9, f"their mean is {mean}")
    if plan.get("rule", 1) < 2 or plan["lags"]:
        return f"?mean {mean:.6g}; z of the first rule, and of outcomes that overlap, is not recomputed"
    due = [one for one in zip(plan["looks"], plan["boundaries"], strict=True) if one[0] <= len(days)]
    last = looks[-1]["outcome"] if looks else ""
    need(len(looks) == len(due) or last in ("harm", "futile"), f"{len(due)} looks were due")
    for look, (day, boundary) in zip(looks, due, strict=False):
        z, won = standardised(days[:day], margin, corrected)[1], look["outcome"] in ("promote", "held", "uneven")
        need((look["day"], look["boundary"]) == (day, boundary), f"the look on day {look['day']} was planned otherwise")
        need(abs(z - look["z"]) < 1e-6 and won == (z >= boundary), f"on day {day}, z is {z:.6f}")
    need(decision["alpha_spent"] == (plan["spent"][len(looks) - 1] if looks else 0), "the looks spent otherwise")
    fired = [rail["action"] for rail in decision["guardrails"] if rail["fired"]]
    is_won = not fired and (last == "promote" or decision["standing"]["sequence"])
    is_harm = "rollback" in fired or last == "harm" or decision["always_on"]["high"] <= -margin
    follows = {"promote": is_won, "rollback": is_harm, "hold": True}[decision["action"]]
    need(follows, f"nothing in it leads to {decision['action']}")
    error = standardised(days, 0.0, corrected)[0] if len(days) else math.nan
    return f"{decision['action']}: {len(days)} days, {len(looks)} looks, mean {mean:.6g}, standard error {error:.3g}"


def check_seal(seal, decision, plan_text, chain):
    need(seal["plan"] == decision["plan_digest"] == sha(plan_text), "the plan is not the one that was registered")
    need(all(seal[name] == decision[name] for name in ("as_of", "action", "experiment")), "it seals another decision")
    need(
        (seal["weights_after"], seal["weights_before"]["epoch"]) == (decision["weights"], decision["epoch"]), "weights"
    )
    before = {one["digest"] for one in chain if one["number"] < seal["number"]}
    named = [seal["plan_record"], seal["weights_before"]["record"], *seal["rows"].values()]
    need(before >= {*named} - {None}, "a record that it names is not in the chain before it")
    weights, model = decision["weights"], decision["challenger"]
    action = "hold" if "question" in decision else decision["action"]
    need(action != "promote" or weights == {model: 100}, f"a promotion to {weights}")
    need(action != "rollback" or model not in weights, f"a rollback to {weights}")
    said = "" if seal["plan_record"] else "?the plan was registered before the chain; "
    for one in (one for one in chain if one["kind"] == "weights" and seal["subject"] in one["decisions"]):
        arms = {arm["model"]: arm["weight"] for arm in one["arms"] if arm["weight"]}
        need(len(one["decisions"]) > 1 or arms == weights, f"epoch {one['epoch']} has the weights {arms}")
        said += f"epoch {one['epoch']} follows from it; "
    return f"{said}weights {weights}"


def check_files(files, docs):
    for name in {*files} - {SUMS}:
        if "/" not in name:
            docs[name] = [json.loads(line) for line in lines_of(files[name])]
            need(text_of(map(dumped, docs[name])) == files[name], f"{name} is not as it was written")
    sums, listed = [f"{sha(files[name])}  {name}" for name in sorted({*files} - {SUMS})], lines_of(files[SUMS])
    wrong = sorted({line[66:] for line in {*sums} ^ {*listed}})
    need(text_of(sums) == files[SUMS], f"missing, not listed, or changed: {', '.join(wrong)}")
    return f"{len(sums)} files are those that are listed"


def passport(folder, wanted, link):
    paths = (path for path in folder.rglob("*") if path.is_file())
    files, docs, chain = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, {}, []
    link("files", check_files, files, docs)
    lines = lines_of(files["chain.jsonl"])
    link("chain", check_chain, lines, chain)
    plan, decision, evidence, prices = (docs[f"{name}.json"][0] for name in ("plan", "decision", "evidence", "prices"))
    digest, pair = sha(files["decision.json"][:-1]), (plan["champion"], plan["challenger"])
    seal = next(one for one in chain if one["kind"] == "decision" and one["subject"] == digest)
    before, span = chain[: seal["number"] - 1], (plan["starts_after"], decision["as_of"])
    expected = {name for name in files if "/" not in name or name.startswith(tuple(f"models/{one}/" for one in pair))}
    for one in (one for one in chain[seal["number"] - 1 :] if one["kind"] in SIGNED):
        names = [f"signed/{one['number']:06d}.json{end}" for end in ("", ".minisig")]
        texts = [files.get(name, b"").decode(errors="replace") for name in names]
        link(f"signature of {one['kind']}", check_signature, one, lines[one["number"] - 1], *texts, wanted)
        expected |= {*names}
    link("price store", check_history, docs["price-history.jsonl"], seal["prices"]["store"])
    link("closes", check_closes, prices, seal["prices"])
    for model in pair:
        link(f"model {model}", check_model, model, seal["artefacts"][model], before, files, span[0])
    rows, requests, series = docs["predictions.jsonl"], docs["requests.jsonl"], evidence["series"]
    link("predictions", check_rows, "direct", "model", before, rows, {*pair}, span)
    link("requests", check_rows, "routed", "experiment", before, requests, {plan["experiment"]}, ("", span[1]))
    link("evidence", check_evidence, plan, decision, series, before, rows, prices)
    link("statistics", check_statistics, plan, series, decision)
    link("decision", check_seal, seal, decision, files["plan.json"][:-1], chain)
    need(files.keys() == expected, f"{sorted(files.keys() - expected)} belong to no record")
    return "all of them are here"


def state(folder, wanted, link):
    chain = []
    with closing(sqlite3.connect(f"{(folder / 'predictions.db').resolve().as_uri()}?mode=ro", uri=True)) as log:
        if not log.execute("SELECT 1 FROM sqlite_master WHERE name = 'sealed_records'").fetchone():
            return "?there is no chain: all that is in this log was recorded before it"
        stored = log.execute("SELECT document, coalesce(signature, '') FROM sealed_records ORDER BY number").fetchall()
        link("chain", check_chain, [line for line, _ in stored], chain)
        for kind, group in (("direct", "model"), ("routed", "experiment")):
            ids = {i for one in chain if one["kind"] == kind for i in ids_in(one)}
            forms = [one["columns"] for one in chain if one["kind"] == f"{kind} form"] or [["id"]]
            rows = log.execute(f"SELECT {', '.join(forms[-1])} FROM {kind}_predictions ORDER BY id")
            rows = [[*row] for row in rows if row[0] in ids]
            link(f"{kind} predictions", check_rows, kind, group, chain, rows, None, ("", "9"))
        tables = ("decisions", "experiment_plans", "question_plans")
        texts = [text for table in tables for (text,) in log.execute(f"SELECT document FROM {table}")]
    for record, (line, minisig) in zip(chain, stored, strict=True):
        if record["kind"] in SIGNED:
            name = f"signature of {record['kind']} {record['subject'][:20]}"
            link(name, check_signature, record, line, line, minisig, wanted)
    lost = {one["subject"] for one in chain if one["kind"] in ("decision", "plan")} - {sha(t.encode()) for t in texts}
    need(not lost, f"decisions or plans that are not what was sealed: {sorted(lost)}")
    return f"{len(texts)} decisions and plans; what a decision's figures are from is checked in its passport"


def verify(folder, wanted=None):
    """All findings, (state, link, what was found) each, and the exit status."""
    folder, found = Path(folder), []

    def link(name, check, *arguments):
        try:
            said = check(*arguments)
            found.append(("?" if said[0] == "?" else "ok", name, said.lstrip("?")))
        except Exception as error:  # whatever a changed file does to a check is a finding, never the end of them
            found.append(("BROKEN", name, f"{'' if type(error) is AssertionError else repr(error)[:200]}{error}"))

    is_state = (folder / "predictions.db").is_file()
    if is_state or (folder / SUMS).is_file() or (folder / "chain.jsonl").is_file():
        link("records", state if is_state else passport, folder, wanted, link)
    states = {state for state, *_ in found}
    return found, 1 if "BROKEN" in states else 0 if states == {"ok"} else 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--key", help="public key of the owner, as minisign writes it")
    chosen = parser.parse_args()
    found, status = verify(chosen.folder, chosen.key)
    for line in found or [("?", chosen.folder, "is neither a passport nor a state folder with a log in SQLite")]:
        print("{:6} {}: {}".format(*line))
    sys.exit(status)
