"""The driver: it builds process trees, watches them through pidfds, and cleans them up."""
