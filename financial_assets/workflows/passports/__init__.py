"""Passports of decisions: what they were taken from, collected so that somebody else can check it."""
