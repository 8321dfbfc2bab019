"""`make soak`: two nodes behind a balancer, real stores, traffic whose every answer is judged,
and everything that breaks in a year within an hour.

`oracle.py` knows what each answer must be, `consequences.py` what each event may cost, `town.py`
starts what is attacked, `traffic/` calls it, `events.py` breaks it, `probes.py` asks from outside
whether it is there, `figures.py` says whether that was good enough.  docs/reliability.md tells how
to read the result.
"""
