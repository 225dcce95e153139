"""Data sets of images with one label each."""
