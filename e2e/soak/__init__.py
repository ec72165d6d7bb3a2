"""A seeded schedule of scenarios over many trees at once: see README.md."""
