this host no longer answers monitoring hosts as the baseline wants it to:
  hardening.absent:
    - family: nrpe
