"""Volumes that only a customer can open: how they are made, opened, closed and given new keys."""
