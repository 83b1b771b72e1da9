"""The whole network as a torch module, built from its spec; trained and merged networks alike."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from onebranch.algebra.conv import Conv
from onebranch.errors import OnebranchError
from onebranch.images.resize import downscale_phases, upscale_phases
from onebranch.nn.block import Block, FreezableBatchNorm, Mode
from onebranch.nn.fake_quantization import rounded_features
from onebranch.nn.prelu import TrainablePReLU
from onebranch.spec.network import BlockSpec, NetworkSpec
from onebranch.spec.quantization import QuantizedLayer


class Resampling(nn.Module):
    """The learnt downsampling layer: a strided convolution, or pixel unshuffle and a 3x3 convolution."""

    def __init__(self, spec: NetworkSpec, shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.factor, self.unshuffles = spec.scale, spec.downsampling == "unshuffle"
        like = nn.Conv2d(shape[1], shape[0], (shape[2], shape[3]))
        self.weight, self.bias = like.weight, like.bias
        if spec.residual != "none":  # training starts from the reduced picture alone
            for parameter in self.parameters():
                nn.init.zeros_(parameter)

    def forward(self, values: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, C, H / s, W / s)."""
        if self.unshuffles:
            values = functional.pixel_unshuffle(values, self.factor)
        stride = 1 if self.unshuffles else self.factor
        return functional.conv2d(values, self.weight, self.bias, stride=stride, padding=1)


class Network(nn.Module):
    """head -> blocks -> tail -> resampling layer, with skips and the picture residual.

    restorer: an enlarging network that is trained together with this one; forward does not use it.
    """

    residual_taps: Tensor
    restorer: "Network | None"

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        widths = spec.input_widths
        self.head = Block(spec.head, widths[0])
        self.blocks = nn.ModuleList(
            Block(block, inputs) for block, inputs in zip(spec.blocks, widths[1:-1], strict=True)
        )
        self._alike = _indices_by_spec(self.blocks)
        self.tail = Block(spec.tail, widths[-1])
        shape = spec.resampling_shape()
        self.resample = Resampling(spec, shape) if shape else nn.Identity()
        self.register_buffer("residual_taps", _residual_taps(spec), persistent=False)
        self.restorer = None
        self.rounding: tuple[QuantizedLayer, ...] = ()

    def round_to_8_bits(self, layers: Sequence[QuantizedLayer]) -> None:
        """From now on, round kernels and feature maps to 8 bits, but let gradients pass (fake quantization).

        layers: the scales and zero points of head, blocks and tail, which stay as they are. Only kernels of
        blocks in `merged` mode are rounded. Raises OnebranchError if the layers' names differ.
        """
        if [layer.name for layer in layers] != list(self.spec.names):
            raise OnebranchError("the record of quantization belongs to a network with other layers")
        self.rounding = tuple(layers)
        for block, layer in zip((self.head, *self.blocks, self.tail), layers, strict=True):
            assert isinstance(block, Block)
            block.weight_scales = layer.weight_scales

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (N, C, H, W) in [0, 1] -> enhanced pictures, unclipped."""
        pictures = _fill(pictures, self.spec.scale) if self.spec.task == "downscale" else pictures
        kernels = self.merged_kernels(pictures)
        outputs = [_in_full_precision(self.head, pictures)]
        for index, block in enumerate(self.blocks):
            outputs.append(block(self._joined(outputs, index), kernels.get(index)))
        features = _in_full_precision(self.tail, self._joined(outputs, len(self.blocks)))
        return self._resampled(features, pictures)

    def merged_kernels(self, like: Tensor) -> dict[int, Conv]:
        """The kernels of all blocks in `merged` mode that have equal specs, by index, differentiably.

        The tensors of equal blocks are stacked and merged together (vmap), because merging consists of many
        small operations. The kernels equal those merged block by block to the last bit. A block whose spec
        no other block has merges its own kernel.
        """
        kernels: dict[int, Conv] = {}
        with torch.autocast(like.device.type, enabled=False):  # kernels keep their full precision
            for indices in self._alike:
                members = {i: self._block(i) for i in indices if self._block(i).mode == "merged"}
                if len(members) > 1:
                    kernels |= zip(members, _merged_together(list(members.values()), like), strict=True)
        return kernels

    def _block(self, index: int) -> Block:
        block = self.blocks[index]
        assert isinstance(block, Block)
        return block

    def _joined(self, outputs: list[Tensor], target: int) -> Tensor:
        """Block `target`'s output with its skips: additions first, then concatenations."""
        value = outputs[target]
        skips = [skip for skip in self.spec.skips if skip.target == target]
        for skip in skips:
            value = value + self._kept(outputs, skip.source) if skip.join == "add" else value
        widening = [outputs[skip.source] for skip in skips if skip.join == "concatenate"]
        joined = torch.cat([value, *widening], 1) if widening else value
        params = self.rounding[target].output if self.rounding else None
        return joined if params is None else rounded_features(joined, params)

    def _kept(self, outputs: list[Tensor], source: int) -> Tensor:
        """Layer `source`'s output before its skips, as a later skip adds it."""
        if not self.rounding:
            return outputs[source]
        params = self.rounding[source].raw or self.rounding[source].output
        assert params is not None, "no skip starts at the tail"
        return rounded_features(outputs[source], params)

    def _resampled(self, features: Tensor, pictures: Tensor) -> Tensor:
        if self.spec.task == "upscale":
            return functional.pixel_shuffle(self._with_residual(features, pictures), self.spec.scale)
        if self.spec.downsampling == "average":
            features = functional.avg_pool2d(features, self.spec.scale)
        return self._with_residual(_in_full_precision(self.resample, features), pictures)

    def _with_residual(self, features: Tensor, pictures: Tensor) -> Tensor:
        """The resized picture added; for upscale before the pixel shuffle, as s^2 phases a channel."""
        if self.spec.residual == "none":
            return features
        if self.spec.task == "denoise":
            return features + pictures
        size = self.residual_taps.shape[-1]
        stride = self.spec.scale if self.spec.task == "downscale" else 1
        # Upscaling: an odd kernel around the pixel. Downscaling by 2 with a kernel of 8: 3 pixels on each
        # side of a cell.
        before = (size - stride) // 2 if self.spec.task == "downscale" else size // 2
        after = size - stride - before
        framed = functional.pad(pictures, (before, after, before, after), mode="replicate")
        taps = self.residual_taps.repeat(self.spec.channels, 1, 1, 1)
        with torch.autocast(pictures.device.type, enabled=False):  # bfloat16 has 8 bits, like the picture
            resized = functional.conv2d(framed, taps, stride=stride, groups=self.spec.channels)
        return features + resized

    def set_mode(self, mode: Mode) -> None:
        """Choose how every block runs forward; raises OnebranchError for `merged` before BN is frozen."""
        for block in self.each_block():
            block.set_mode(mode)

    def set_prelu(self, computation: str) -> None:
        """Choose how every PReLU is computed while it is trained: one of `PRELU_COMPUTATIONS`."""
        for module in self.modules():
            if isinstance(module, TrainablePReLU):
                module.computation = computation

    def each_block(self) -> list[Block]:
        """Head, blocks and tail."""
        return [module for module in self.modules() if isinstance(module, Block)]

    def batch_norms(self) -> list[FreezableBatchNorm]:
        """Every batch normalization of the network."""
        return [module for module in self.modules() if isinstance(module, FreezableBatchNorm)]

    def synchronize_batch_norms(self) -> None:
        """Let every BN take its batch statistics over all processes (GPUs only)."""
        for norm in self.batch_norms():
            norm.synchronized = True

    def freeze_batch_norms(self) -> None:
        """Use population statistics from now on, in training too."""
        for norm in self.batch_norms():
            norm.frozen = True


def _in_full_precision(layer: nn.Module, values: Tensor) -> Tensor:
    """A layer in the precision of its weights, also under autocast, where the blocks compute in bfloat16.

    bfloat16 has 8 significant bits, too few for the layers that read and write pictures of 8 bits.
    """
    device = values.device.type
    if not torch.is_autocast_enabled(device):
        result: Tensor = layer(values)
        return result
    with torch.autocast(device, enabled=False):
        in_float32: Tensor = layer(values.float())
    return in_float32


def _indices_by_spec(blocks: Iterable[nn.Module]) -> tuple[tuple[int, ...], ...]:
    """The indices of the blocks, those of equal spec and input width together."""
    groups: dict[tuple[BlockSpec, int], list[int]] = {}
    for index, block in enumerate(blocks):
        assert isinstance(block, Block)
        groups.setdefault((block.spec, block.inputs), []).append(index)
    return tuple(tuple(group) for group in groups.values())


def _merged_together(blocks: list[Block], like: Tensor) -> list[Conv]:
    """The kernels of blocks of equal spec: their tensors are stacked, merged at once and taken apart."""
    first = blocks[0]
    groups = 1

    def merge_one(tensors: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
        nonlocal groups
        conv = first.merged_kernel(tensors, like)
        groups = conv.groups
        return conv.weight, conv.bias

    all_tensors = [block.branch_tensors() for block in blocks]
    stacked = [
        {name: torch.stack([tensors[branch][name] for tensors in all_tensors]) for name in names}
        for branch, names in enumerate(all_tensors[0])
    ]
    if not any(stacked):  # no branch has tensors: identities only
        return [first.merged_kernel(tensors, like) for tensors in all_tensors]
    weights, biases = torch.vmap(merge_one)(stacked)
    return [Conv(weight, bias, groups) for weight, bias in zip(weights, biases, strict=True)]


def _fill(pictures: Tensor, factor: int) -> Tensor:
    """Pictures edge-replicated on the right and bottom to a multiple of `factor`."""
    rows, columns = -pictures.shape[2] % factor, -pictures.shape[3] % factor
    return functional.pad(pictures, (0, columns, 0, rows), mode="replicate") if rows or columns else pictures


def _residual_taps(spec: NetworkSpec) -> Tensor:
    """(s^2 or 1, 1, K, K) fixed kernels of the picture residual; empty where there is none."""
    if spec.residual == "none" or spec.task == "denoise":
        return torch.empty(0)
    phases = upscale_phases if spec.task == "upscale" else downscale_phases
    taps = np.asarray(phases(spec.scale, spec.residual)).copy()
    return torch.from_numpy(taps).to(torch.get_default_dtype())[:, None]


def load(spec: NetworkSpec, weights: Mapping[str, np.ndarray]) -> Network:
    """A network of that spec with those weights (names as in the model file), in evaluation mode."""
    network = Network(spec)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    counts = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counts, **tensors})
    except RuntimeError as error:
        raise OnebranchError(f"the weights do not fit the spec: {error}") from None
    return network.eval()


def weights_of(network: Network) -> dict[str, np.ndarray]:
    """The network's tensors as float32 arrays, by the names of the model file; a restorer's are left out."""
    return {
        name: tensor.detach().to("cpu", torch.float32).numpy().copy()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked") and not name.startswith("restorer.")
    }
