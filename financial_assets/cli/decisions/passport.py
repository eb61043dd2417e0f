"""Commands about what can be shown to others: the passport of a decision, the model-risk document, the signing key."""

from __future__ import annotations

from pathlib import Path

import click

from financial_assets.cli import examples, open_configured


@click.command(epilog=examples("passport 3f0c9a1b2d4e --out decision", "passport latest --out decision"))
@click.argument("record")
@click.option(
    "--out", "folder", required=True, type=click.Path(path_type=Path), help="Folder to write; made when missing."
)
def passport(record: str, folder: Path) -> None:
    """Collect all that a decision was taken from in one folder.

    From prices to weights. RECORD is the id that decide prints, or `latest`. Two exports are equal byte for byte. Who
    gets the folder checks it with `python tools/verify.py FOLDER`, which needs NumPy and nothing of this program.
    """
    installation = open_configured()
    from financial_assets.cli.decisions.commands import find_decision
    from financial_assets.workflows.passports.passport import export_passport

    ab_test = installation.ab_test
    decision = find_decision(ab_test, "" if record == "latest" else record, latest=record == "latest")
    count = export_passport(decision, installation.market, installation.models, ab_test, folder)
    click.echo(f"{decision.digest[:12]} of {decision.as_of} ({decision.action}): {count} files in {folder}")


@click.command("model-risk", epilog=examples("model-risk", "model-risk --out champion.md"))
@click.option("--model", help="Served name of another arm; default: the champion.")
@click.option("--out", "path", type=click.Path(path_type=Path), help="File to write; default: print it.")
def model_risk(model: str | None, path: Path | None) -> None:
    """Write the model-risk document of the champion.

    It is made from records alone, with the headings of SR 11-7. Each figure names the record that it is from, with its
    digest; what no record says is said to be unknown. The setting MODEL_OWNER names the owner.
    """
    installation = open_configured()
    from financial_assets.atomic import atomic_write_text
    from financial_assets.workflows.passports.model_risk import model_risk_document

    document = model_risk_document(installation.market, installation.models, installation.ab_test, model)
    if path is None:
        click.echo(document, nl=False)
    else:
        atomic_write_text(path, document)
        click.echo(f"written to {path}")


@click.command("signing-key", epilog=examples("signing-key ~/.keys/decisions.key"))
@click.argument("file", type=click.Path(path_type=Path))
def signing_key(file: Path) -> None:
    """Make a key that decisions are signed with.

    FILE is new and readable by its owner only. Set SIGNING_KEY to it, and give the public key, which is printed, to
    those who check decisions, by another way than the decisions themselves.
    """
    from financial_assets.settings import load_settings
    from financial_assets.signing import make_key

    current = load_settings().signing_key
    signer = make_key(file)
    until = "" if current is None else f" Until then, decisions are signed with {current}."
    click.echo(
        f"{file} holds the secret key; SIGNING_KEY={file} signs with it.{until} The public key:\n{signer.public}"
    )
