this host no longer gives access to its Salt master as the baseline wants it to:
  hardening.absent:
    - family: access
