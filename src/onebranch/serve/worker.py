"""What the process of one picture does: it confines itself, checks the header, enhances, and sends the bytes.

It reports in messages of one byte for the kind, and a content: `HEADER` (JSON: format, size) before all else,
`PROGRESS` (a share from 0 to 1), `RESULT_DATA` (bytes of the result), then `RESULT_END`; or `REFUSED` (JSON:
a problem).
"""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from onebranch import strict_json
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options, OptionValues
from onebranch.enhancer.single_file import (
    EnhancementPreview,
    FileOptions,
    enhance_file,
    enhance_stream,
    preview_file,
)
from onebranch.errors import OnebranchError
from onebranch.images.encoders.encoding import Encoding
from onebranch.images.encoders.stream import STREAMED_FORMATS
from onebranch.images.formats import FORMATS, Format, format_of_name
from onebranch.images.probe import Probe, probe
from onebranch.images.reading import open_picture
from onebranch.images.writing import ANIMATION_FORMATS
from onebranch.runtime.gpu import CPU, names_gpu
from onebranch.serve.limits import ServiceLimits
from onebranch.serve.logs import LOGGER, set_up
from onebranch.serve.problems import Problem
from onebranch.serve.sandbox import confine, limit_resources

HEADER, PROGRESS, RESULT_DATA, RESULT_END, REFUSED = b"h", b"p", b"d", b"e", b"r"
"""Kinds of messages."""

MESSAGE_DATA_BYTES = 1 << 16
"""Bytes of the result that are sent at a time."""

ADDRESS_SPACE_MARGIN = 700_000_000
"""Address space for stacks and unused parts of allocations, which takes no memory."""

FILE_MARGIN_BYTES = 1 << 20
BYTES_PER_PIXEL = 16
"""Bytes of a temporary file or a result per pixel, at most: RGB and alpha in 32 bits."""

INPUT_NAME, RESULT_STEM = "picture", "result"
"""Names in the folder of one picture."""

READABLE = (
    *(sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])),
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom"),
    *("/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/sys/fs/cgroup", "/sys/devices/system/cpu"),
)
"""What the process may read beside its own folder: the program, its libraries, and facts of the system."""

GPU_READABLE = ("/sys", "/proc/driver/nvidia", "/etc/vulkan")
"""What graphics drivers read: facts of devices, and where the drivers are."""

GPU_DEVICES = ("/dev/dri", "/dev/kfd", "/dev/dxg")
"""Device files, and folders of them, that graphics drivers use; those of NVIDIA are numbered."""


@dataclass(frozen=True)
class PictureTask:
    """One picture.

    folder: holds the file `INPUT_NAME`; nothing else is written to. accepted: names of the formats that the
    client likes best; empty if it likes all equally well.
    """

    folder: str
    model: str | None
    options: OptionValues
    encoding: Encoding
    accepted: tuple[str, ...]
    limits: ServiceLimits


def work(task: PictureTask, connection: Connection) -> None:
    """Enhance one picture and send messages through the connection. This runs in a separate process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the service decides when this process ends
        signal.signal(number, signal.SIG_IGN)
    log_stream, messages = _separate_log(), Messages(connection)
    try:
        _confine(task)
        _enhance(task, messages)
    except BrokenPipeError:
        os._exit(1)
    except Problem as problem:
        messages.refuse(problem)
    except MemoryError:
        messages.refuse(_out_of_memory(task.limits))
    except OnebranchError as error:
        messages.refuse(_damaged(task, error))
    except Exception:
        set_up(log_stream)
        LOGGER.exception("mistake in the process of a picture")
        os._exit(1)


def _separate_log() -> TextIO:
    """Standard error for the log alone: what decoders print about damaged pictures would break its lines."""
    log_stream = os.fdopen(os.dup(2), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return log_stream


class Messages:
    """Sends whole messages from several threads: one sends the result while another reports the progress."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def send(self, kind: bytes, content: bytes | bytearray = b"") -> None:
        """Send a message."""
        with self._lock:  # a large message is written in several parts
            self._connection.send_bytes(kind + content)

    def refuse(self, problem: Problem) -> None:
        """Send a problem."""
        self.send(REFUSED, strict_json.dumps([problem.status, problem.reason, problem.detail]).encode())


def _confine(task: PictureTask) -> None:
    """Take the rights that a picture does not need. Drivers of GPUs reserve any amount of address space."""
    limits = task.limits
    tempfile.tempdir = task.folder
    on_gpu = names_gpu(task.options.get("device", CPU))
    if on_gpu:
        confine(
            (*READABLE, *GPU_READABLE), [task.folder], (*GPU_DEVICES, *map(str, Path("/dev").glob("nvidia*")))
        )
    else:
        confine(READABLE, [task.folder])
    pixels = limits.input_pixels + limits.output_pixels
    limit_resources(
        None if on_gpu else limits.memory + ADDRESS_SPACE_MARGIN,
        limits.seconds * (task.options["threads"] or 1),
        pixels * BYTES_PER_PIXEL + FILE_MARGIN_BYTES,
    )


def _enhance(task: PictureTask, messages: Messages) -> None:
    source = Path(task.folder, INPUT_NAME)
    probed = _checked_probe(source, task.limits)
    target_format = chosen_format(probed.format, task.accepted)
    target = Path(task.folder, RESULT_STEM + target_format.suffixes[0])
    enhancer = _enhancer(task)
    files = FileOptions(task.encoding, max_pixels=task.limits.input_pixels)
    preview = _checked_preview(task, probed, target, enhancer, files)
    messages.send(HEADER, strict_json.dumps(_facts(target_format, preview)).encode())
    sender = _Sender(messages)
    if preview.frames == 1 and target_format.name in STREAMED_FORMATS:
        enhance_stream(source, target, enhancer, files, sender.data, progress=sender.progress)
    else:
        enhance_file(source, target, enhancer, files, progress=sender.progress)
        sender.file(target)
    sender.end()


def _enhancer(task: PictureTask) -> Enhancer:
    try:
        return Enhancer(Options(model=task.model, **task.options))
    except OnebranchError as error:
        raise Problem(422, "parameters", str(error)) from None


def _facts(target_format: Format, preview: EnhancementPreview) -> dict[str, Any]:
    return {
        "format": target_format.name,
        "width": preview.after[1],
        "height": preview.after[0],
        "frames": preview.frames,
        "models": preview.models,
        "notes": preview.notes,
    }


def _checked_probe(source: Path, limits: ServiceLimits) -> Probe:
    """What the file announces; raises `Problem` if it is not a picture, or too large."""
    try:
        probed = probe(source)
    except OnebranchError as error:
        raise Problem(415, "not_a_picture", _without_path(error, source)) from None
    pixels = probed.width * probed.height * probed.frames
    if probed.frames > limits.frames:
        raise Problem(413, "frames", f"the picture has {probed.frames} frames; the limit is {limits.frames}")
    if pixels > limits.input_pixels:
        raise Problem(
            413,
            "input_pixels",
            f"the picture has {probed.width}x{probed.height} pixels"
            f"{f' and {probed.frames} frames' if probed.frames > 1 else ''};"
            f" the limit is {limits.input_pixels} pixels in all",
        )
    return probed


def chosen_format(source: Format, accepted: Sequence[str]) -> Format:
    """The format of the result: the picture's own if it is written and accepted, else the best accepted one.

    >>> chosen_format(FORMATS["JPEG"], ["PNG", "JPEG"]).name, chosen_format(FORMATS["JPEG"], ["WebP"]).name
    ('JPEG', 'WebP')
    """
    if source.name in FORMATS and (not accepted or source.name in accepted):
        return source
    return FORMATS[accepted[0]] if accepted else FORMATS["PNG"]


def _checked_preview(
    task: PictureTask, probed: Probe, target: Path, enhancer: Enhancer, files: FileOptions
) -> EnhancementPreview:
    """What will be done; raises `Problem` if that is impossible or too much."""
    limits = task.limits
    with open_picture(probed, max_pixels=limits.input_pixels, memory=limits.memory) as reader:
        layout = reader.header.layout
    height, width = enhancer.size_of_result((layout.height, layout.width))
    frames = probed.frames if format_of_name(target).name in ANIMATION_FORMATS else 1
    if height * width * frames > limits.output_pixels:
        raise Problem(
            413,
            "output_pixels",
            f"the result would have {width}x{height} pixels{f' and {frames} frames' if frames > 1 else ''};"
            f" the limit is {limits.output_pixels} pixels in all",
        )
    return preview_file(probed.path, target, enhancer, files)


def _damaged(task: PictureTask, error: OnebranchError) -> Problem:
    text = _without_path(error, Path(task.folder, INPUT_NAME))
    if "(--memory" in text:
        return Problem(413, "memory", text.replace(" (--memory)", " for one picture"))
    return Problem(422, "damaged", text)


def _out_of_memory(limits: ServiceLimits) -> Problem:
    return Problem(413, "memory", f"the picture needs more memory than the {limits.memory} bytes allowed")


def _without_path(error: Exception, source: Path) -> str:
    """The message of an error, which must not tell where files lie."""
    text = str(error).replace(f"'{source}'", "the picture").replace(str(source), "the picture")
    return text.replace(str(source.parent), "")


class _Sender:
    """Sends bytes of the result in pieces, and the progress in hundredths."""

    def __init__(self, messages: Messages) -> None:
        self._messages, self._held, self._percent = messages, bytearray(), -1

    def data(self, content: bytes) -> None:
        """Send bytes of the result."""
        self._held += content
        while len(self._held) >= MESSAGE_DATA_BYTES:
            self._messages.send(RESULT_DATA, self._held[:MESSAGE_DATA_BYTES])
            del self._held[:MESSAGE_DATA_BYTES]

    def file(self, path: Path) -> None:
        """Send a complete file."""
        with path.open("rb") as file:
            while content := file.read(MESSAGE_DATA_BYTES):
                self.data(content)

    def progress(self, share: float) -> None:
        """Report the completed share."""
        if int(100 * share) > self._percent:
            self._percent = int(100 * share)
            self._messages.send(PROGRESS, f"{share:.4f}".encode())

    def end(self) -> None:
        """Send the remaining bytes."""
        if self._held:
            self._messages.send(RESULT_DATA, self._held)
        self._messages.send(RESULT_END)
