import os

# The sources are what is edited: only `make test COMPILED=1` runs what was compiled of them.
os.environ.setdefault("AUTHGATE_COMPILE", "never")
