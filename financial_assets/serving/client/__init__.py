"""V2 inference through the gateway: client, transports, answers, probe."""
