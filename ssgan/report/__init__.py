"""Make one report page from result rows. Imports no torch."""
