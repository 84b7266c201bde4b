"""Structured logs: pretty on a terminal, else one JSON object per line; on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any, TextIO, cast

from schedproto.printable import printable

from .log_output import LogOutput


def _load_structlog() -> None:
    """Load structlog without rich, which would take a fifth of the time until the daemon listens.

    structlog uses it for tracebacks on a terminal, and works without it.
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
from structlog.typing import EventDict, Processor  # noqa: E402 - see above


def configure(log_format: str, level: str, output: LogOutput) -> None:
    """Set up structlog for this process: a log call never raises and never waits.

    Lines of a job carry its ids through `structlog.contextvars`.
    """
    pretty = log_format == "pretty" or (log_format == "auto" and output.isatty())
    renderer = (
        structlog.dev.ConsoleRenderer(colors=output.isatty())
        if pretty
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not pretty),
        structlog.processors.StackInfoRenderer(),
        *([_printable_values] if pretty else [structlog.processors.format_exc_info]),
        renderer,
    ]
    render = _Renderer(processors, output)
    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", output)),
        cache_logger_on_first_use=True,
    )
    output.lost_lines_text = render.lost_lines_text


def _printable_values(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Escape what controls a terminal; JSON escapes it anyway."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable(value, lines=key == "traceback")
    return event


class _Renderer:
    """The chain of processors as one processor that never raises."""

    def __init__(self, processors: Sequence[Processor], output: LogOutput) -> None:
        self._processors = processors
        self._output = output

    def _render(self, logger: Any, name: str, event: Any) -> str:
        for processor in self._processors:
            event = processor(logger, name, event)
        return str(event)

    def __call__(self, logger: Any, name: str, event: EventDict) -> str:
        try:
            return self._render(logger, name, event)
        except Exception:  # noqa: BLE001 - a value that cannot be shown must not end the caller
            self._output.count_lost(1)
            raise structlog.DropEvent from None

    def lost_lines_text(self, count: int) -> str:
        """Return the line that says how many lines are missing before it."""
        return self._render(None, "warning", {"event": "log lines lost", "lines": count})
