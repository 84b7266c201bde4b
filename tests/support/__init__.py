"""Helpers of the tests: processes, organizations, plans, and servers that tests run."""
