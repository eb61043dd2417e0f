"""From raw prices to a served, A/B-tested, monitored forecasting model, as one Dagster asset graph."""
