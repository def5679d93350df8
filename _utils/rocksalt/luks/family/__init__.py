"""The family luks on one host: what is expected, what is there, and how the two meet."""
