"""The check of an organization's file (`schedctl check`) and its adoption.

The check reads a file as a run would; the adoption changes it on request. Knows neither socket nor
job; `schedd.files.requests` calls it.
"""
