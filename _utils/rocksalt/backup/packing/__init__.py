"""From files to one archive that any tar reads: walk, tar, compress, and the index of it."""
