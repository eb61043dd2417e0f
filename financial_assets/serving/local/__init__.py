"""The embedded data plane: Envoy in front of MLServer, kept alive by one supervisor."""
