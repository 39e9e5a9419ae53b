"""A plugin that fails while it is imported."""

import a_module_that_is_not_installed  # noqa: F401

GANENGINE_API = 1
