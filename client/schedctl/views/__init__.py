"""Terminal output of results, plans, findings and configurations."""
