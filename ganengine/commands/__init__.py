"""The built-in commands; each is a function of its arguments that returns an exit status."""
