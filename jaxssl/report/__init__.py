"""Shows results: `page` is the report of a run, `study` that of a study, `table` what the terminal prints."""
