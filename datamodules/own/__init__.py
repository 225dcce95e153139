"""Folders of one's own pictures: what is in them, its description in a file, and the data modules that read it."""
