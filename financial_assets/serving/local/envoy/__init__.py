"""Envoy's configuration as documents, and its publication to a running Envoy."""
