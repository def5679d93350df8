this host no longer reports by itself:
  hardening.absent:
    - family: drift
