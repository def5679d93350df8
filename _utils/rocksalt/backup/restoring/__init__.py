"""From a vault to files again, for real or as a drill."""
