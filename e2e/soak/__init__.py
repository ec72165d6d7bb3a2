"""Runs a seeded schedule of scenarios in many trees at once. See README.md."""
