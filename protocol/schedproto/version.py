"""The one place that says which release this is.

The build and all three packages read it from here.
"""

__version__ = "0.1.0"
