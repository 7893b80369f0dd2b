"""Command line: one file a command, and the parser that they share."""
