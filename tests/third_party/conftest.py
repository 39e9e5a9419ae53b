"""The distributions here are installed by a test; what they hold is not collected as tests of this suite."""

collect_ignore = ["distributions"]
