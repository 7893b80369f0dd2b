"""The sections of the pages, one file each: a function from what was read to a `Section`, or None if it has nothing."""
