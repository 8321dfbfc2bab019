"""Measures the gateway beside its peers on this machine: `make bench`.

Figures of one run can be compared with each other, and with nothing else.
"""
