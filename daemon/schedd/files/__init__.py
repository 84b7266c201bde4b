"""Requests on organizations' files: information, transfers, diagnosis."""
