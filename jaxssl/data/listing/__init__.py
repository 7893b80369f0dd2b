"""Which images a folder or a table names, with their splits, classes and groups; nothing is decoded."""
