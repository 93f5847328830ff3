"""Draw figures from arrays and logs, without torch."""
