"""Translating pictures: which goes where, reading them at full depth, tiles of large ones, writing."""
