"""`python -m scanners`: black-box scanners against a started gateway; part of `make audit`."""
