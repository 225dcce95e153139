"""Folders of users' images: their content, its description in a file, and data modules that read it."""
