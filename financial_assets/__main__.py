"""``python -m financial_assets``: the command line, where its script is not on the path."""

from financial_assets.cli.main import main

if __name__ == "__main__":
    main(prog_name="financial-assets")
