"""Jobs over organizations that live in a bucket.

Fetch, publish what changed, carry over on conflict.
"""
