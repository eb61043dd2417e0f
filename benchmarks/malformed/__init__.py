"""Seeded malformed requests; ``../malformed_requests.py`` sends them, and so does the test suite."""
