"""One report page made from result rows. Imports no torch."""
