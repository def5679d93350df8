the baseline of accounts is gone:
  hardening.absent:
    - family: accounts
