"""What a host has to be, seen from outside of the baseline's own modules: see docs/infra.md."""
