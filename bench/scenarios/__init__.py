"""What the main table of `make bench` does not show: each a table with the peers that can do it.

`python -m bench --list` names them; `--scenario NAME` runs one, `--all` all of them.
"""
