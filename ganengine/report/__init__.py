"""The report of a run: one HTML file that holds all it shows. Nothing here imports torch."""
