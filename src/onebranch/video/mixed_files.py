"""Batches of pictures and clips: the functions by which `enhancer.folders` enhances clips too.

PyAV is imported when the first clip is enhanced.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.memory_budget import MemoryBudget
from onebranch.enhancer.names import Values
from onebranch.enhancer.options import Options
from onebranch.enhancer.other_files import OtherFiles
from onebranch.enhancer.single_file import (
    Enhanced,
    EnhancementPreview,
    FileOptions,
    Progress,
    enhance_file,
    preview_file,
)
from onebranch.strict_json import dumps
from onebranch.video.containers import CLIP_SUFFIXES, container_of_name, is_clip, result_suffix
from onebranch.video.options import VideoOptions
from onebranch.video.progress import ReportProgress, report_nothing

if TYPE_CHECKING:
    from onebranch.video.clip_division import ClipDivision
    from onebranch.video.segments import SegmentRange

LOCK_SECONDS = 120.0
"""How long a task of a cluster waits for the segments of a clip: a file server keeps the lock of a lost node.

NFS keeps it for 90 seconds by default.
"""

UNRECORDED_OPTIONS = ("resume", "on_interrupt", "lock_seconds", "encoder_threads")
"""Options of clips that no record holds: a result that differs in these only is not made again."""


@dataclass(frozen=True)
class MixedFiles:
    """Enhances pictures and clips. suffix: suffix of clips' results, such as ".mkv"; "" keeps the clip's."""

    video: VideoOptions
    suffix: str = ""
    report: ReportProgress = report_nothing

    def enhance(
        self,
        source: Path,
        target: Path,
        enhancer: Enhancer,
        file_options: FileOptions,
        *,
        progress: Progress,
        budget: MemoryBudget,
    ) -> Enhanced:
        """Enhance one file; an `enhancer.single_file.EnhanceFile`."""
        if not is_clip(source):
            return enhance_file(source, target, enhancer, file_options, progress=progress, budget=budget)
        from onebranch.video.single_clip import enhance_clip

        return enhance_clip(
            source,
            target,
            enhancer.options,
            file_options,
            self.video,
            progress=progress,
            budget=budget,
            report=self.report,
        )

    def for_tasks(self, encoder_threads: int) -> "MixedFiles":
        """The same, for the tasks of a cluster: all encode alike, and wait for the lock of a lost one."""
        video = replace(self.video, lock_seconds=LOCK_SECONDS, encoder_threads=encoder_threads)
        return replace(self, video=video)

    def resuming(self) -> "MixedFiles":
        """The same, but clips continue with the segments of an earlier process."""
        return replace(self, video=replace(self.video, resume=True))

    def divide(
        self, source: Path, target: Path, enhancer: Enhancer, file_options: FileOptions
    ) -> "ClipDivision | None":
        """The segments of a clip that several processes can write; see `clip_division.divide_clip`."""
        from onebranch.video.clip_division import divide_clip

        return divide_clip(source, target, enhancer.options, file_options, self.video)

    def enhance_segment(
        self,
        source: Path,
        target: Path,
        enhancer: Enhancer,
        file_options: FileOptions,
        segment: "SegmentRange",
        *,
        progress: Progress,
        budget: MemoryBudget,
    ) -> bool:
        """Write one segment of a clip; see `clip_division.enhance_segment`."""
        from onebranch.video.clip_division import enhance_segment

        return enhance_segment(
            source,
            target,
            enhancer.options,
            file_options,
            self.video,
            segment,
            progress=progress,
            budget=budget,
        )

    def preview(
        self, source: Path, target: Path, enhancer: Enhancer, file_options: FileOptions
    ) -> EnhancementPreview:
        """Preview one file; an `enhancer.single_file.PreviewFile`."""
        if not is_clip(source):
            return preview_file(source, target, enhancer, file_options)
        from onebranch.video.single_clip import preview_clip

        return preview_clip(source, target, enhancer.options, file_options, self.video)

    def other_files(self) -> OtherFiles:
        """What a batch must know of clips."""
        effective, default = (
            {key: value for key, value in asdict(options).items() if key not in UNRECORDED_OPTIONS}
            for options in (self.video, VideoOptions())
        )
        settings = "" if effective == default else dumps(effective)
        suffix_of: Callable[[Path], str] = (lambda source: self.suffix) if self.suffix else result_suffix
        return OtherFiles(CLIP_SUFFIXES, suffix_of, container_of_name, measured_fields, settings)


def measured_fields(path: Path, options: Options) -> Values:
    """The fields of a result's name that depend on the size of the clip."""
    from onebranch.video.frame_enhancer import clip_options
    from onebranch.video.probe import probe_clip

    size = probe_clip(path).size
    enhancer = Enhancer(clip_options(options, size))
    height, width = enhancer.size_of_result(size)
    models = [stage.model.name for stage in enhancer.stages_for(size)]
    return {"width": width, "height": height, "scale": f"{width / size[1]:.4g}", "model": "+".join(models)}
