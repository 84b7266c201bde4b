"""The version of this release, which the build and all packages read from here."""

__version__ = "0.1.0"
