the baseline of sshd is gone:
  hardening.absent:
    - family: sshd
