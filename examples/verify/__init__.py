"""Middleware that verifies `X-Auth-Assertion`: see README.md."""
