"""Reading the folders, tables and interactions of releases, and writing synthetic releases."""
