"""What the master knows of its workers reaches each of them."""

from __future__ import annotations

import os

from gateway.app.supervision import Deaths


def test_a_worker_reads_what_the_master_has_counted_before_and_after_its_fork() -> None:
    deaths = Deaths()
    deaths.add()
    to_worker, to_master = os.pipe(), os.pipe()
    if not (pid := os.fork()):
        os.read(to_worker[0], 1)
        os.write(to_master[1], b"%d" % deaths.count)
        os._exit(0)
    deaths.add()
    os.write(to_worker[1], b"x")
    assert os.read(to_master[0], 9) == b"2"
    os.waitpid(pid, 0)
    for descriptor in (*to_worker, *to_master):
        os.close(descriptor)
