"""A merged luma network as a user shader of mpv and libplacebo: the text of its rendering passes.

Every pass is a fragment shader that computes four channels of one layer at every pixel of the luma plane, as
one texture. The last pass writes the enlarged luma plane.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onebranch.algebra.branch import collapse
from onebranch.algebra.conv import Conv, regroup
from onebranch.algebra.network import within
from onebranch.errors import OnebranchError, printable
from onebranch.model.catalogue import CATALOGUE, load
from onebranch.model.file import Model, fingerprint
from onebranch.spec.network import LEAKY_SLOPE, BlockSpec, NetworkSpec

CHANNELS_PER_TEXTURE = 4

MAX_TEXTURES = 16
"""Textures that one pass may bind (SHADER_MAX_BINDS of mpv and libplacebo)."""

MAX_WEIGHTS = 200_000
"""Largest number of weights: about 2 MB of text. Larger networks take drivers minutes to compile."""

USED_FROM = 0.7
"""The shader runs if the picture is shown more than this share of the network's scale larger: x2 from 1.4."""

NEGATIVE_SLOPES = {"relu": 0.0, "leaky_relu": LEAKY_SLOPE}
"""The slope for negative values of the activations that have a constant one."""

INSIDE = """\
// 1 inside the picture, 0 outside: the network pads with zeros, but textures repeat their edge.
float inside(vec2 at) {
    vec2 within = step(vec2(0.0), at) * step(at, vec2(1.0));
    return within.x * within.y;
}
"""

DEPTH = """\
// A luma code c of n bits is c / (255 * 2^(n - 8)) in the network. mpv's vo=gpu scales it so; libplacebo
// divides by 2^n - 1. LUMA_mul, the factor of codes in 16 bits, tells which: for 10 bits 64.25 or 64.06.
float depth_factor() {
    return LUMA_mul > 1.0001 ? exp2(round(log2(LUMA_mul))) * (257.0 / 256.0) / LUMA_mul : 1.0;
}
float picture(vec2 at) {
    return depth_factor() * LUMA_tex(at).x;
}
"""

CUBIC = """\
// Keys' cubic convolution kernel with a = -0.5.
float cubic(float x) {
    x = abs(x);
    float near = (1.5 * x - 2.5) * x * x + 1.0;
    float far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
    return x <= 1.0 ? near : (x < 2.0 ? far : 0.0);
}
"""


@dataclass(frozen=True)
class Texture:
    """A texture of up to four channels; `channels` are those of the layer's input, in the texture's order."""

    name: str
    channels: int


LUMA: tuple[Texture, ...] = (Texture("LUMA", 1),)
"""The picture, which is the input of the first layer."""


def shader_text(model: Model) -> str:
    """The complete text of the shader. Raises OnebranchError with the reason for a network it cannot hold.

    >>> from onebranch.model.catalogue import load
    >>> text = shader_text(load("photo-x2"))
    >>> text.count("//!HOOK LUMA"), text.count("//!SAVE LUMA")
    (22, 1)
    """
    check_fits(model.spec)
    writer = _PassWriter(model)
    return "\n".join([_header(model), *writer.layers(), writer.last_pass()])


def check_fits(spec: NetworkSpec) -> None:
    """Raise OnebranchError with the first reason if no shader can be written for the network."""
    for reason in (_reason_of_network(spec), *(_reason_of_block(n, b) for n, b, _ in spec.walk())):
        if reason:
            raise OnebranchError(f"an mpv shader cannot hold this network: {reason}")
    for name, textures in _bound_textures(spec):
        if textures > MAX_TEXTURES:
            raise OnebranchError(
                f"an mpv shader cannot hold this network: {name} reads {textures} textures of 4 channels"
                f" where a pass may read {MAX_TEXTURES}; use a network of fewer channels or skips"
            )
    weights = sum(_weights(block, inputs) for _, block, inputs in spec.walk())
    if weights > MAX_WEIGHTS:
        raise OnebranchError(
            f"an mpv shader cannot hold this network: it has {weights:,} weights where the limit is"
            f" {MAX_WEIGHTS:,}, because drivers take minutes to compile more"
        )


def _reason_of_network(spec: NetworkSpec) -> str:
    if spec.task != "upscale":
        return f"its task is '{spec.task}'; a shader of the luma plane enlarges it ('upscale')"
    if spec.colour != "y":
        return f"its colour is '{spec.colour}'; a shader of the luma plane needs a network of luma ('y')"
    return ""


def _reason_of_block(name: str, block: BlockSpec) -> str:
    if len(block.branches) > 1 or len(block.parsed[0].steps) > 1:
        return f"{name} is not one convolution; merge the network first (onebranch merge)"
    if block.activation not in ("prelu", "none", *NEGATIVE_SLOPES):
        return f"{name} has the activation '{block.activation}'; valid: prelu, relu, leaky_relu, none"
    return ""


def _bound_textures(spec: NetworkSpec) -> Iterator[tuple[str, int]]:
    """For every layer, the largest number of textures that one of its passes reads."""
    widths = [block.width for block in spec.all_blocks]
    inputs = 1
    for index, name in enumerate(spec.names):
        skips = [skip for skip in spec.skips if skip.target == index]
        yield name, inputs + sum(skip.join == "add" for skip in skips)
        inputs = _textures(widths[index])
        inputs += sum(_textures(widths[skip.source]) for skip in skips if skip.join == "concatenate")
    yield "the last pass", 1 + _textures(spec.tail.width)


def _weights(block: BlockSpec, inputs: int) -> int:
    rows, columns = block.parsed[0].merged_kernel
    return block.width * inputs * rows * columns


def _textures(channels: int) -> int:
    return -(-channels // CHANNELS_PER_TEXTURE)


def _header(model: Model) -> str:
    """Comments with the name, the licence and the digest of the model."""
    spec, digest = model.spec, fingerprint(model)
    shipped = model.name in CATALOGUE and fingerprint(load(model.name)) == digest
    licence = "Apache-2.0 (a model of onebranch)" if shipped else "that of the model"
    name = printable(model.name or "unnamed").replace("//!", "")
    lines = [
        f"{name}: enlarges the luma plane {spec.scale} times; written by onebranch export --to mpv",
        f"Licence: {licence}",
        f"SHA-256 of the weights: {digest}",
        f"Runs if the picture is shown more than {spec.scale * USED_FROM:.1f} times as large.",
    ]
    return "".join(f"// {line}\n" for line in lines)


class _PassWriter:
    """Writes the passes of one model."""

    def __init__(self, model: Model) -> None:
        self._model, self._spec = model, model.spec
        self._outputs: list[tuple[Texture, ...]] = []

    def layers(self) -> Iterator[str]:
        """The passes of all layers, in order."""
        value = LUMA
        for index, (name, block, inputs) in enumerate(self._spec.walk()):
            added = self._sources(index, "add")
            joined = any(skip.source == index for skip in self._spec.skips)
            yield from self._layer(name, block, inputs, value, () if joined else added)
            value = self._outputs[-1]
            if added and joined:  # later skips start from the output without the sum
                yield from self._sums(name, value, added)
                value = tuple(Texture(f"{texture.name}_sum", texture.channels) for texture in value)
            for source in self._sources(index, "concatenate"):
                value += source

    def _sources(self, target: int, join: str) -> list[tuple[Texture, ...]]:
        skips = self._spec.skips
        return [self._outputs[s.source] for s in skips if s.target == target and s.join == join]

    def _layer(
        self,
        name: str,
        block: BlockSpec,
        inputs: int,
        value: Sequence[Texture],
        added: Sequence[Sequence[Texture]],
    ) -> Iterator[str]:
        """The passes of one layer: a convolution, its activation, and the addition of skips."""
        tensors = within(self._model.weights, name)
        like = np.zeros(1, np.float32)
        branch = within(tensors, "branches.0")
        conv = regroup(collapse(block.parsed[0], branch, like, inputs, block.width), 1)
        slopes = _slopes(block, tensors)
        outputs = []
        for part, first in enumerate(range(0, block.width, CHANNELS_PER_TEXTURE)):
            channels = slice(first, min(first + CHANNELS_PER_TEXTURE, block.width))
            output = Texture(f"{name.replace('.', '_')}_{part}", channels.stop - first)
            addends = [source[part] for source in added]
            code = [*_convolution(conv, channels, value)]
            if slopes is not None:
                code.append(f"sum = max(sum, 0.0) + {_vector(slopes[channels])} * min(sum, 0.0);")
            code += [f"sum += {texture.name}_texOff(vec2(0.0));" for texture in addends]
            what = f"{name}, channels {first} to {channels.stop - 1}"
            yield self._pass(what, [*value, *addends], output, code)
            outputs.append(output)
        self._outputs.append(tuple(outputs))

    def _sums(self, name: str, value: Sequence[Texture], added: Sequence[Sequence[Texture]]) -> Iterator[str]:
        """The passes that add skips to a layer whose own output is needed later."""
        for part, texture in enumerate(value):
            sources = [texture, *(source[part] for source in added)]
            code = ["vec4 sum = vec4(0.0);", *(f"sum += {s.name}_texOff(vec2(0.0));" for s in sources)]
            output = Texture(f"{texture.name}_sum", texture.channels)
            yield self._pass(f"{name}, sum of skips", sources, output, code)

    def _pass(self, what: str, bound: Sequence[Texture], output: Texture, code: Sequence[str]) -> str:
        body = "".join(f"    {line}\n" for line in code)
        head = self._directives(what, [texture.name for texture in bound], output.name, 1, 4)
        functions = INSIDE + DEPTH if LUMA[0] in bound else INSIDE
        return f"{head}{functions}vec4 hook() {{\n{body}    return sum;\n}}\n"

    def last_pass(self) -> str:
        """The pass that shuffles the channels of the tail into pixels and adds the resized picture."""
        scale, textures = self._spec.scale, self._outputs[-1]
        names = ["LUMA", *(texture.name for texture in textures)]
        code = "".join(f"    {line}\n" for line in _shuffle(scale, textures, self._spec.residual))
        functions = DEPTH + CUBIC if self._spec.residual == "bicubic" else DEPTH
        head = self._directives("pixel shuffle", names, "LUMA", scale, 1)
        code += "    return vec4(luma / depth_factor(), 0.0, 0.0, 1.0);\n"
        return f"{head}{functions}vec4 hook() {{\n{code}}}\n"

    def _directives(self, what: str, bound: Sequence[str], saved: str, scale: int, components: int) -> str:
        name = printable(self._model.name or "network").replace("//!", "")
        factor = f"{self._spec.scale * USED_FROM:.1f}"
        lines = ["HOOK LUMA", f"DESC {name}: {what}"]
        lines += [f"BIND {texture}" for texture in dict.fromkeys(["LUMA", *bound] if scale > 1 else bound)]
        lines.append(f"SAVE {saved}")
        lines += [f"{side} LUMA.{letter} {scale} *" for side, letter in (("WIDTH", "w"), ("HEIGHT", "h"))]
        lines += [
            f"COMPONENTS {components}",
            f"WHEN OUTPUT.w LUMA.w / {factor} > OUTPUT.h LUMA.h / {factor} > *",
        ]
        return "".join(f"//!{line}\n" for line in lines)


def _convolution(conv: Conv, channels: slice, value: Sequence[Texture]) -> Iterator[str]:
    """The lines that leave four channels of a convolution in the variable `sum`."""
    yield f"vec4 sum = {_vector(conv.bias[channels])};"
    first = value[0].name
    (rows, columns), weight = conv.radius, conv.weight[channels]
    for row in range(-rows, rows + 1):
        for column in range(-columns, columns + 1):
            taps = weight[:, :, row + rows, column + columns]
            if not (terms := list(_terms(taps, value, _offset(row, column)))):
                continue
            if row or column:
                at = f"{first}_pos + {first}_pt * {_offset(row, column)}"
                yield f"sum += inside({at}) * ({' + '.join(terms)});"
            else:
                yield f"sum += {' + '.join(terms)};"


def _terms(taps: np.ndarray, value: Sequence[Texture], offset: str) -> Iterator[str]:
    """For every texture its product with the weights (outputs, inputs) of one tap; none where they are 0."""
    begin = 0
    for texture in value:
        part = taps[:, begin : begin + texture.channels]
        begin += texture.channels
        if not part.any():
            continue
        if texture.name == LUMA[0].name:
            yield f"{_vector(part[:, 0])} * picture(LUMA_pos + LUMA_pt * {offset})"
        elif texture.channels == 1:
            yield f"{_vector(part[:, 0])} * {texture.name}_texOff({offset}).x"
        else:
            yield f"{_matrix(part)} * {texture.name}_texOff({offset})"


def _shuffle(scale: int, textures: Sequence[Texture], residual: str) -> Iterator[str]:
    """The lines that leave one pixel of the result in the variable `luma`.

    Example for x2: the output pixel in column 7 lies in column 3 of the picture (`cell.x` is 3.75), and takes
    the phase 1 of 0 and 1 in its row, because 0.75 * 2 is 1.5.
    """
    yield "vec2 cell = LUMA_pos * LUMA_size;"
    yield f"ivec2 part = ivec2(fract(cell) * {scale}.0);"
    yield "vec2 at = (floor(cell) + 0.5) * LUMA_pt;"
    yield f"int phase = part.y * {scale} + part.x;"
    yield f"vec4 phases = {textures[0].name}_tex(at);"
    for index, texture in enumerate(textures[1:], 1):
        yield f"if (phase >= {index * CHANNELS_PER_TEXTURE}) phases = {texture.name}_tex(at);"
    yield f"float luma = phases[phase - phase / {CHANNELS_PER_TEXTURE} * {CHANNELS_PER_TEXTURE}];"
    if residual == "nearest":
        yield "luma += picture(at);"
    elif residual == "bicubic":
        yield from _bicubic(scale)


def _bicubic(scale: int) -> Iterator[str]:
    """The lines that add the bicubically enlarged picture, whose edges are replicated."""
    yield f"vec2 centre = (vec2(part) + 0.5) / {scale}.0 - 0.5;"
    yield "for (int row = -2; row <= 2; row++)"
    yield "    for (int column = -2; column <= 2; column++) {"
    yield "        vec2 tap = vec2(float(column), float(row));"
    yield "        vec2 where = clamp(at + LUMA_pt * tap, 0.5 * LUMA_pt, 1.0 - 0.5 * LUMA_pt);"
    yield "        luma += cubic(tap.y - centre.y) * cubic(tap.x - centre.x) * picture(where);"
    yield "    }"


def _slopes(block: BlockSpec, tensors: dict[str, np.ndarray]) -> np.ndarray | None:
    """The slope of every channel for negative values; None without an activation."""
    if block.activation == "none":
        return None
    if block.activation == "prelu":
        return tensors["activation.weight"]
    return np.full(block.width, NEGATIVE_SLOPES[block.activation], np.float32)


def _offset(row: int, column: int) -> str:
    return f"vec2({column}.0, {row}.0)"


def _vector(values: np.ndarray) -> str:
    """Up to four numbers as a vec4, filled with zeros.

    >>> _vector(np.array([0.5, -1.0], np.float32))
    'vec4(0.5, -1.0, 0.0, 0.0)'
    """
    return f"vec4({', '.join(_numbers(values))})"


def _matrix(weights: np.ndarray) -> str:
    """Weights (outputs, inputs), at most 4x4, as a mat4, whose columns belong to the inputs."""
    square = np.zeros((CHANNELS_PER_TEXTURE, CHANNELS_PER_TEXTURE), np.float32)
    square[: weights.shape[0], : weights.shape[1]] = weights
    return f"mat4({', '.join(text for column in square.T for text in _numbers(column))})"


def _numbers(values: np.ndarray) -> list[str]:
    """The shortest decimals that stand for exactly these float32 numbers."""
    padded = [*np.asarray(values, np.float32), *[np.float32(0)] * (CHANNELS_PER_TEXTURE - len(values))]
    return [str(value) for value in padded]
