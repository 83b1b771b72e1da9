"""ICC profiles for tests, made by libvips, which has some built in."""

from onebranch.images.libvips import pyvips


def profile(name: str) -> bytes:
    """libvips' own profile: "srgb" or "p3"."""
    image = pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb")
    return bytes(image.icc_transform(name, input_profile="srgb").get("icc-profile-data"))
