"""Structured logs: pretty on a terminal, one JSON object a line elsewhere, always on standard error."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def configure(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Set up structlog for this process. Lines of a job carry its ids through `structlog.contextvars`."""
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
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
