"""Measures of what a trained run makes, as pure functions of samples."""
