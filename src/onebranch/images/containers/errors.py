"""The error of a file whose bytes violate its container format."""


class ContainerError(ValueError):
    """A container is damaged; the message says how, without the file's name: 'it ends too soon'."""
