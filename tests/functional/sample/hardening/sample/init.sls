{%- set families = salt["hardening.prepare"](saltenv) %}
{%- if not families %}
include: [hardening.refused]
{%- else %}

the sample is enforced where nobody can be locked out:
  hardening.enforced:
    - family: sample
    - guarded: false

somebody keeps a way in to the sample:
  hardening.safe:
    - family: sample

the door of the sample is closed:
  hardening.enforced:
    - family: sample
    - guarded: true
    - require:
      - hardening: somebody keeps a way in to the sample

the run goes on:
  test.nop: []
{%- endif %}
