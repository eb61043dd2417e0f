"""Check a decision from prices to weights: python tools/verify.py FOLDER [PUBLIC_KEY].

FOLDER is what `financial-assets passport` wrote, or a state folder with its prediction log in SQLite. What PUBLIC_KEY,
known from elsewhere to be the owner's, did not sign is broken. Exit status: 0 if all links hold, 1 if one is broken, 2
if none is but something cannot be shown. docs/passport.md says what this shows and what it cannot.
"""

import base64
import functools
import hashlib
import json
import math
import sqlite3
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np

SIGNED, SUMS = ("decision", "approval", "weights"), "SHA256SUMS"
NODES, WEIGHTS = np.polynomial.legendre.leggauss(120)
SCORES = {"accuracy": lambda p, up: 1.0 * ((p > 0.5) == up), "brier": lambda p, up: -((p - up) ** 2)}
SCORES["log_loss"] = lambda p, up: np.log(np.where(up, p, 1 - p))
dumped = functools.partial(json.dumps, sort_keys=True, separators=(",", ":"))


def need(holds, message):
    if not holds:
        raise AssertionError(message)


def sha(content):
    return hashlib.sha256(content).hexdigest()


def text_of(lines):
    return "".join(f"{line}\n" for line in lines).encode()


# Ed25519 by RFC 8032, section 5.1, in extended coordinates; signatures as minisign writes them.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    return (b - a) * (d - c) % P, (d + c) * (b + a) % P, (d - c) * (d + c) % P, (b - a) * (b + a) % P


def times(scalar, base):
    rest = times(scalar >> 1, add(base, base)) if scalar else (0, 1, 1, 0)
    return add(rest, base) if scalar & 1 else rest


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
    key, (_, first, comment, second) = base64.b64decode(record["signer"]), minisig.splitlines()
    body, around = base64.b64decode(first), base64.b64decode(second)
    shape = ["untrusted comment: signature of a record of financial-assets", base64.b64encode(body).decode()]
    shape += [f"trusted comment: {comment[17:]}", base64.b64encode(around).decode()]
    need((text_of(shape), text) == (minisig.encode(), line) and body[:2] == b"ED", "it is not as it was written")
    need(body[2:10] == key[2:10] and wanted in (None, record["signer"]), f"it is by the key {record['signer']}")
    need(is_signed(key[10:], hashlib.blake2b(line.encode()).digest(), body[10:]), "another record was signed")
    need(is_signed(key[10:], body[10:] + comment[17:].encode(), around), "another comment was signed")
    return f"signed by {record['signer']}" + ("" if wanted else ", as it says: compare that with the owner's key")


def check_chain(lines, chain):
    for number, line in enumerate(lines, 1):
        said, previous = json.loads(line), chain[-1]["digest"] if chain else "0" * 64
        need((said["number"], said["previous"]) == (number, previous), f"record {number} does not follow the last")
        chain.append({**said, "digest": sha(line.encode())})
    old = ", ".join(f"{count} of {name}" for name, count in chain[0]["before"].items() if count)
    said = f"{len(lines)} records since {chain[0]['at']}, head {chain[-1]['digest'][:12]}"
    return f"?{said}; before the chain, and shown only as they were when it began: {old}" if old else said


def check_rows(kind, group, chain, rows, wanted, sessions):
    by_id, width, place, order = {row[0]: row for row in rows}, 0, 0, []
    for record in chain:
        if record["kind"] == f"{kind} form":  # a later form has more columns behind those of the earlier one
            width, place = len(record["columns"]), record["columns"].index(group)
        if record["kind"] == kind and sessions[0] < record["subject"] <= sessions[1]:
            own = [by_id[one] for first, last in record["ids"] for one in range(first, last + 1) if one in by_id]
            for name in {*record["of"]} & (wanted or {*record["of"]}):
                (count, digest), where = record["of"][name], f"{record['subject']}, {name}"
                found = [dumped(row[:width]) for row in own if row[place] == name]
                need(len(found) == count, f"{where}: {len(found)} rows; {count} were sealed")
                need(sha(text_of(found)) == digest, f"{where}: a row is not what was sealed")
            order += [row for row in own if not wanted or row[place] in wanted]
    need(order == rows or not wanted, f"{len(rows)} rows are here, sealed were {len(order)}, or in another order")
    return f"{len(order):,} rows are those that were sealed; {len(rows) - len(order)} came later"


def check_prices(changes, prices, sealed):
    days, closes = np.array(prices["sessions"], "datetime64[D]").astype("<i8"), np.array(prices["closes"], "<f4")
    traded = np.array(prices["traded"], np.uint8)
    back = {"closes": closes.astype(float).tolist(), "traded": traded.tolist()}
    need(dumped({**prices, **back}) == dumped(prices) and len(prices) == 4, "prices.json is not as it was written")
    found = sha(text_of(prices["tickers"]) + days.tobytes() + closes.tobytes() + traded.tobytes())
    need(found == sealed["closes"], f"closes are {found[:12]}; the decision was taken on {sealed['closes'][:12]}")
    if not (store := sealed["store"]):
        return "?closes are those that were sealed; which state of the price store they are from is not known"
    need(sha(text_of(map(dumped, changes))) == store["history"], "a change of prices is not what was sealed")
    need(changes[-1]["new_hash"] == store["content"], "the last change left other prices than were sealed")
    return f"{len(prices['tickers'])} tickers, {len(days)} sessions, after {len(changes)} changes of the store"


def check_model(model, digest, chain, files, starts_after):
    record = next((one for one in chain if one["digest"] == digest and one["subject"] == model), None)
    need(record or not digest, "its record is not in the chain")
    for name, field in (("model-card.json", "card_sha256"), ("model.onnx", "onnx_sha256")):
        if not record or f"models/{model}/{name}" not in files:
            return "?its files were not known when the decision was sealed, or are not here"
        need(sha(files[f"models/{model}/{name}"]) == record[field], f"{name} is not what was sealed ({record[field]})")
    need(record["data_cutoff"] <= starts_after, f"it has learned from sessions up to {record['data_cutoff']}")
    return f"its files are those that were sealed; it has learned from sessions up to {record['data_cutoff']}"


def check_evidence(plan, decision, evidence, chain, rows, prices):
    """Daily series: the score that decides, accuracy, against each baseline, each guard (docs/passport.md)."""
    parts = [(np.array(one["sessions"], "datetime64[D]"), np.array(one["differences"], "<f8")) for one in evidence]
    digest = sha(b"".join(days.astype("<i8").tobytes() + values.tobytes() for days, values in parts))
    need(digest == decision["evidence_digest"], "a daily difference is not one that was decided on")
    columns = next((record["columns"] for record in chain if record["kind"] == "direct form"), ())
    rows = [row for row in (dict(zip(columns, row, strict=False)) for row in rows) if row["status"] == "ok"]
    said = {(row["model"], row["ticker"], row["session"]): row["probability_up"] for row in rows}
    days, pair = prices["sessions"], (plan["challenger"], plan["champion"])
    cells = [said.get((who, ticker, day)) for who in pair for ticker in prices["tickers"] for day in days]
    (first, second), metric = np.array(cells, float).reshape(2, -1, len(days)), plan["test"]["metric"]
    up = np.diff(np.log(np.array(prices["closes"], float)), axis=1, append=np.nan) > 0
    traded = np.array(prices["traded"], bool) & (np.arange(len(days)) < len(days) - 1)
    known = traded & np.roll(prices["traded"], -1, axis=1) & ~np.isnan(first + second)
    has = known.any(axis=0)
    for name, (own, values) in zip((metric, "accuracy"), parts, strict=False):
        if name in SCORES:
            differences = np.where(known, SCORES[name](first, up) - SCORES[name](second, up), np.nan)[:, has]
            same = np.array_equal(np.array(days, "datetime64[D]")[has], own)
            same = same and np.allclose(np.nanmean(differences, axis=0), values, 0, 1e-9)
            need(same, f"rows and closes give another {name}")
    more = f"{metric} and " if metric in SCORES else f"?not {metric}, which decides and needs more, but "
    return f"{more}accuracy of each day follow from rows and closes"


def standardised(days, margin, corrected):
    """Standard error of the mean, and z of its advantage over the margin (docs/ab-testing.md, planned looks)."""
    if len(days) < 2 or np.ptp(days) <= 1e-12:
        return 0.0, 0.0
    n, centred = len(days), days - days.mean()
    rho = np.sum(centred[1:] * centred[:-1]) / np.sum(centred**2)
    rho = min(max(rho + (1 + 4 * rho) / n, -0.97), 0.97)
    error = days.std(ddof=1) * math.sqrt(max(1.0, (1 + rho) / (1 - rho)) / n)
    t = (days.mean() - margin) / error
    if corrected:
        skew = math.copysign(1, t) * np.mean(centred**3) / days.std() ** 3
        part = min(skew, 0) / math.sqrt(min(n, days.var(ddof=1) / error**2))
        size = min(abs(t), -3 / part) if part < -1e-12 else abs(t)
        t = math.copysign(max(size + part * size**2 / 3 + part**2 * size**3 / 27 + part / 6, 0.0), t)
    # Student's tail: the cosine to the power of n - 2, from the angle of t to a right angle.
    half = (math.pi / 2 - math.atan(abs(t) / math.sqrt(n - 1))) / 2
    tail = half * np.sum(WEIGHTS * np.sin(half * (1 + NODES)) ** (n - 2)) / math.sqrt(math.pi)
    tail *= math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    return error, math.copysign(min(-NormalDist().inv_cdf(tail) if tail > 0 else 38, 38), t)


def check_statistics(plan, evidence, decision):
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
    fired = [rail["action"] for rail in decision["guardrails"] if rail["fired"]]
    is_won = not fired and (last == "promote" or decision["standing"]["sequence"])
    is_harm = "rollback" in fired or last == "harm" or decision["always_on"]["high"] <= -margin
    need({"promote": is_won, "rollback": is_harm, "hold": True}[decision["action"]], "its action does not follow")
    said = standardised(days, 0.0, corrected)[0]
    return f"{decision['action']}: {len(days)} days, {len(looks)} looks, mean {mean:.6g}, standard error {said:.3g}"


def check_seal(seal, decision, chain):
    need(all(seal[name] == decision[name] for name in ("as_of", "action", "experiment")), "it seals another decision")
    sealed = (seal["plan"], seal["weights_after"], seal["weights_before"]["epoch"])
    need(sealed == (decision["plan_digest"], decision["weights"], decision["epoch"]), "it seals other plan or weights")
    named = {seal["plan_record"], seal["weights_before"]["record"], *seal["rows"].values()} - {None}
    need(named <= {one["digest"] for one in chain[: seal["number"] - 1]}, "a record that it names is not before it")
    weights, model, said = decision["weights"], decision["challenger"], f"weights {decision['weights']}"
    fitting = {"promote": weights == {model: 100}, "rollback": model not in weights, "hold": True}
    need("question" in decision or fitting[decision["action"]], f"{decision['action']}, but {said}")
    for one in (one for one in chain if one["kind"] == "weights" and seal["subject"] in one["decisions"]):
        arms = {arm["model"]: arm["weight"] for arm in one["arms"] if arm["weight"]}
        need(len(one["decisions"]) > 1 or arms == weights, f"epoch {one['epoch']} has the weights {arms}")
        said += f", opened as epoch {one['epoch']}"
    return said if seal["plan_record"] else f"?{said}; its plan was registered before the chain"


def passport(folder, wanted, link):
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    names, chain, known = [name for name in files if "/" not in name and name != SUMS], [], set()
    docs = {name: [json.loads(line) for line in files[name].decode().splitlines()] for name in names}
    need(all(text_of(map(dumped, docs[name])) == files[name] for name in names), "a file is not as it was written")
    lines = [*map(dumped, docs["chain.jsonl"])]
    link("chain", check_chain, lines, chain)
    plan, decision, evidence, prices = (docs[f"{name}.json"][0] for name in ("plan", "decision", "evidence", "prices"))
    digest, span = sha(files["decision.json"][:-1]), (plan["starts_after"], decision["as_of"])
    seal = next(one for one in chain if one["kind"] == "decision" and one["subject"] == digest)
    before, pair = chain[: seal["number"] - 1], (plan["champion"], plan["challenger"])
    for one in (one for one in chain[seal["number"] - 1 :] if one["kind"] in SIGNED):
        own = [f"signed/{one['number']:06d}.json{end}" for end in ("", ".minisig")] if "signer" in one else []
        texts = [files[name].decode() for name in own] or ["", ""]
        link(f"signature of {one['kind']}", check_signature, one, lines[one["number"] - 1], *texts, wanted)
        known |= {*own}
    link("prices", check_prices, docs["price-history.jsonl"], prices, seal["prices"])
    for model in pair:
        link(f"model {model}", check_model, model, seal["artefacts"][model], before, files, span[0])
    asked, rows = docs["requests.jsonl"], docs["predictions.jsonl"]
    link("requests", check_rows, "routed", "experiment", before, asked, {plan["experiment"]}, ("", span[1]))
    link("predictions", check_rows, "direct", "model", before, rows, {*pair}, span)
    link("evidence", check_evidence, plan, decision, evidence["series"], before, rows, prices)
    link("statistics", check_statistics, plan, evidence["series"], decision)
    link("weights", check_seal, seal, decision, chain)
    sums = [f"{sha(files[name])}  {name}" for name in sorted({*files} - {SUMS})]
    need(text_of(sums) == files[SUMS], f"not as listed: {sorted({*sums} ^ {*files[SUMS].decode().splitlines()})}")
    need(sha(files["plan.json"][:-1]) == decision["plan_digest"], "the plan is not the one that was registered")
    need(known == {name for name in files if name.startswith("signed/")}, "what is signed is not all in the chain")
    return f"{len(sums)} files are those that are listed"


def state(folder, wanted, link):
    chain = []
    with sqlite3.connect(f"{(folder / 'predictions.db').resolve().as_uri()}?mode=ro", uri=True) as log:
        if not log.execute("SELECT 1 FROM sqlite_master WHERE name = 'sealed_records'").fetchone():
            return "?there is no chain: all that is in this log was recorded before it"
        stored = log.execute("SELECT document, coalesce(signature, '') FROM sealed_records ORDER BY number").fetchall()
        link("chain", check_chain, [line for line, _ in stored], chain)
        for kind, group in (("direct", "model"), ("routed", "experiment")):
            forms = [one["columns"] for one in chain if one["kind"] == f"{kind} form"] or [["id"]]
            rows = [[*row] for row in log.execute(f"SELECT {', '.join(forms[-1])} FROM {kind}_predictions ORDER BY id")]
            link(f"{kind} predictions", check_rows, kind, group, chain, rows, None, ("", "9"))
        tables = [f"SELECT document FROM {table}" for table in ("decisions", "experiment_plans", "question_plans")]
        known = {sha(text.encode()) for (text,) in log.execute(" UNION ALL ".join(tables))}
    for record, (line, minisig) in zip(chain, stored, strict=True):
        if record["kind"] in SIGNED:
            follows = any("signer" in one for one in chain[record["number"] :])  # a signature is of all before it, too
            key = wanted if "signer" in record or not follows else None
            link(f"record {record['number']}", check_signature, record, line, line, minisig, key)
    lost = {one["subject"] for one in chain if one["kind"] in ("decision", "plan")} - known
    need(not lost, f"decisions or plans that are not what was sealed: {sorted(lost)}")
    return f"{len(known)} decisions and plans; what a decision's figures are from is checked in its passport"


def verify(folder, wanted=None):
    folder, found = Path(folder), []

    def link(name, check, *arguments):
        try:
            said = check(*arguments)
            found.append(("?" if said[0] == "?" else "ok", name, said.lstrip("?")))
        except Exception as error:  # whatever a changed file does to a check is a finding, never the end of them
            found.append(("BROKEN", name, f"{error}" if type(error) is AssertionError else repr(error)))

    if any((folder / name).is_file() for name in ("predictions.db", SUMS, "chain.jsonl")):
        link("records", state if (folder / "predictions.db").is_file() else passport, folder, wanted, link)
    states = {state for state, *_ in found}
    return found, 1 if "BROKEN" in states else 0 if states == {"ok"} else 2


if __name__ == "__main__":
    found, status = verify(*sys.argv[1:3]) if len(sys.argv) > 1 else ([("?", "usage", __doc__)], 2)
    lines = found or [("?", sys.argv[1], "neither a passport nor a state folder with a log in SQLite")]
    print("\n".join("{:6} {}: {}".format(*line) for line in lines))
    sys.exit(status)
