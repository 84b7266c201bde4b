"""Machines on Fly: the Machines API, names of the private network, start and stop of a machine."""
