"""Structured logs.

Pretty on a terminal, one JSON object a line elsewhere, always on standard error.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO


def _load_structlog() -> None:
    """Load structlog without rich, whose loading would take a fifth of the time until the daemon listens.

    structlog would use it for tracebacks on a terminal, and does without where it is not installed.
    """
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    # A None in this table makes an import fail (Python's documentation of the import system).
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401, PLC0415
    finally:
        del sys.modules["rich"]


_load_structlog()
import structlog  # noqa: E402 - see above


def configure(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Set up structlog for this process.

    Lines of a job carry its ids through `structlog.contextvars`.
    """
    stream = sys.stderr if stream is None else stream
    pretty = log_format == "pretty" or (log_format == "auto" and stream.isatty())
    renderer = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if pretty
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not pretty),
            structlog.processors.StackInfoRenderer(),
            *([] if pretty else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
