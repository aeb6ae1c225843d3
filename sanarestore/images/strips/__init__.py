"""Photographs in strips: read and written from the top down, a few rows at a time, so that they never lie whole in
memory."""
