"""Keys: age to encrypt, SSHSIG to sign, and who the authority lets read."""
