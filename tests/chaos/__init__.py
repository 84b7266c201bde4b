"""Chaos: kills, full disks, clock jumps, paused processes and damaged files against real processes."""
