"""The files of a run or a study: their schema, reading them, and their results in words."""
