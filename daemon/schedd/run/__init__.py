"""One run: from the organization's file to its new plan.

Knows neither the socket nor the bucket.
"""
