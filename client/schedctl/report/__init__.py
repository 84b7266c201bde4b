"""The report on an organization as one self-contained HTML page."""

from .page import render

__all__ = ["render"]
