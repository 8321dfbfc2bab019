"""`python -m audit`: black-box scanners against a started gateway; part of `make audit`."""
