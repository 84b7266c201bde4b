"""Chaos: kills, full disks, clock jumps, pauses and damage against real processes."""
