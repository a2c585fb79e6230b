"""A release as the world has it: folders, tables, interactions; and synthetic ones."""
