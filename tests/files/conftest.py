"""Tests of transfers use the folders and daemons of the client's tests."""

from client.conftest import clean_environment, make_folder, organization_file

__all__ = ["clean_environment", "make_folder", "organization_file"]
