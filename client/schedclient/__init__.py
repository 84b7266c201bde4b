"""The light client: talks to the daemon, starts one where none runs. Never imports schedd."""
