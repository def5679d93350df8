the sample is gone:
  hardening.absent:
    - family: sample
