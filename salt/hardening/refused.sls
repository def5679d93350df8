#!pyobjects
# Stops the run in plain words. Not in Jinja: Salt buries what that raises in a trace of the template.
from salt.exceptions import SaltRenderError

raise SaltRenderError(salt.hardening.refused())
