the baseline of fail2ban is gone:
  hardening.absent:
    - family: fail2ban
