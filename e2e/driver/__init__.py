"""The driver: starts process trees, watches them through pidfds, and cleans them up."""
