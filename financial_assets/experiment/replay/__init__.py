"""Sessions sent through the gateway: what is pending, asking and sending, paired scoring, outages, the live view."""
