"""The check of an organization's file (`schedctl check`) and its adoption.

Reads as a run would, changes on request.

Knows neither socket nor job; `schedd.files.requests` calls it.
"""
