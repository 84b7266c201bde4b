"""How results, plans, findings and configurations look on a terminal."""
