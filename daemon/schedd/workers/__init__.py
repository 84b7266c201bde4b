"""Worker processes: the pool, the messages between daemon and worker, and the worker itself."""
