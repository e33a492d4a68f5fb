"""The tests; a package, so that `tests.media` is this folder's and nobody else's."""
