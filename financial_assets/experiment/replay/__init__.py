"""Sessions sent through the gateway: what is due, requests, senders, outages, live view."""
