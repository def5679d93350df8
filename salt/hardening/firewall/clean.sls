the baseline of firewall is gone:
  hardening.absent:
    - family: firewall
