"""Machines on Fly.

The Machines API, the private network's names, and how a machine is brought up and down.
"""
