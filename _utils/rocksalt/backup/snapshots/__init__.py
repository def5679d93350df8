"""The master's side: what belongs to it, the spool, a snapshot, and its way to the vaults."""
