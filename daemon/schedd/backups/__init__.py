"""Backups of organizations' files as chains of page deltas, and their restoration."""
