"""Attacks on the sockets of a real daemon: `make attack`."""
