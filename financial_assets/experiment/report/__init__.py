"""The HTML report: page, charts, templates."""
