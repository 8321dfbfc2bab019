"""How log lines look: JSON for machines, short lines with colour on a terminal.

Everything goes to standard error, the remarks of libraries too, from WARNING on.  Each line
names the process that wrote it, as `/readyz`, the metrics and the lines about dead workers do;
where calls are traced, what is logged in one names its trace.

Law: a line that cannot be written is lost, and nothing else.  Its reader may have gone (a pipe),
or its disk may be full: neither ends a task, an answer or the gateway.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict

from gateway.call_trace import current_call

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(level: str = "info") -> None:
    """For this process and its children, its workers."""
    master = os.getpid()

    def with_process(_: Any, __: str, line: EventDict) -> EventDict:
        pid = os.getpid()
        line.setdefault("worker", "master" if pid == master else pid)
        trace = current_call.get()
        if trace is not None and not trace.ended:
            line.setdefault("trace_id", trace.trace_id)
        return line

    terminal = sys.stderr.isatty()
    lossy: Any = LossyStream(sys.stderr)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        with_process,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, last],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=lossy),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(lossy)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _of_a_library, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, LEVELS[level]))
    # It remarks on each session that a cancelled caller leaves behind, which is how we end them.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


class LossyStream:
    """Writes to a stream, and loses what that does not take."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # ValueError: it was closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _of_a_library(_: Any, __: str, line: EventDict) -> EventDict:
    """Its remark is no event of ours: it is the text of one."""
    line["text"] = line.get("event")
    line["event"] = "library-remark"
    record = line.get("_record")
    if record is not None:
        line["library"] = record.name
    return line
