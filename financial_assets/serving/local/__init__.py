"""The local data plane: the real Envoy in front of the real MLServer, kept alive by one supervisor per home."""
