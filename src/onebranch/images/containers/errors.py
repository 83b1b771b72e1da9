"""The error that is raised if the bytes of a file violate its container format."""


class ContainerError(ValueError):
    """A container is damaged. The message states the damage without the file's name: 'it ends too soon'."""
