"""BT.601 studio-range luma and chroma, divided by 255, as super-resolution networks for luma use them.

The coefficients are those of MATLAB's rgb2ycbcr, by which published PSNR values are measured. Values are
neither clipped nor rounded.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
"""A float32 or float64 array; results have the type of the argument."""

_FROM_RGB = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_OFFSET = np.array([16.0, 128.0, 128.0]) / 255
_FROM_YCBCR = np.linalg.inv(_FROM_RGB)


def luma(rgb: FloatArray) -> FloatArray:
    """Studio-range luma / 255 (...) of RGB (..., 3) in [0, 1]; luma is in [16/255, 235/255], not clipped.

    >>> luma(np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])) * 255
    array([ 16., 235.])
    """
    result: FloatArray = rgb @ _FROM_RGB[0].astype(rgb.dtype)
    result += rgb.dtype.type(_OFFSET[0])
    return result


def to_ycbcr(rgb: FloatArray) -> FloatArray:
    """Studio-range Y, Cb and Cr / 255 (..., 3) of RGB (..., 3) in [0, 1].

    >>> to_ycbcr(np.array([1.0, 1.0, 1.0])) * 255
    array([235., 128., 128.])
    """
    return _affine(rgb, _FROM_RGB, _OFFSET)


def to_rgb(ycbcr: FloatArray) -> FloatArray:
    """RGB (..., 3) of studio-range Y, Cb and Cr / 255 (..., 3): the inverse of `to_ycbcr`, not clipped.

    >>> to_rgb(np.array([235.0, 128.0, 128.0]) / 255).round(12)
    array([1., 1., 1.])
    """
    return _affine(ycbcr, _FROM_YCBCR, -_FROM_YCBCR @ _OFFSET)


def _affine(values: FloatArray, matrix: FloatArray, offset: FloatArray) -> FloatArray:
    """matrix @ v + offset for every vector v of `values` (..., 3), computed as one matrix product."""
    result = values.reshape(-1, 3) @ matrix.T.astype(values.dtype)
    result += offset.astype(values.dtype)
    return result.reshape(values.shape)
