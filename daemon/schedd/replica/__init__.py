"""Organizations in a bucket, as the daemon uses them: jobs, other access, the volume as a cache."""
