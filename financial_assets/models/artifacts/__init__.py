"""Model versions as immutable files: fingerprint, card, storage, registration in MLflow."""
