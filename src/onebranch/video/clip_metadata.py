"""Which metadata of a clip and of its streams are kept."""

from collections.abc import Mapping
from dataclasses import dataclass

WRITER_METADATA = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
    "vendor_id",
    "alpha_mode",
)
"""Metadata that describe the file and not its content; the writer of a file states its own."""

LOCATION_WORDS = ("location", "gps", "xyz", "latitude", "longitude")
"""Words in the names of metadata that state where a clip was recorded, such as "location-eng"."""

STREAM_METADATA = ("language", "filename", "mimetype")
"""Stream metadata that is kept even if metadata is stripped: players select streams by it."""


@dataclass(frozen=True)
class MetadataFilter:
    """Which metadata is removed. strip: all but `STREAM_METADATA`. strip_location: the location."""

    strip: bool = False
    strip_location: bool = False

    def of_file(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The metadata of the file that are kept; never those that describe the file and not its content.

        >>> MetadataFilter().of_file({"title": "A", "encoder": "Lavf", "_STATISTICS_TAGS": "BPS"})
        {'title': 'A'}
        >>> MetadataFilter(strip_location=True).of_file({"title": "A", "location-eng": "+47.6+009.1/"})
        {'title': 'A'}
        """
        if self.strip:
            return {}
        return {key: value for key, value in metadata.items() if not self._leaves_out(key, value)}

    def of_stream(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The metadata of a stream that are kept.

        >>> MetadataFilter(strip=True).of_stream({"title": "Comments", "language": "ger"})
        {'language': 'ger'}
        """
        kept = {key: value for key, value in metadata.items() if not self._leaves_out(key, value)}
        return {key: kept[key] for key in STREAM_METADATA if key in kept} if self.strip else kept

    def _leaves_out(self, key: str, value: str) -> bool:
        name = key.lower()
        statistics = key.upper().startswith(("_STATISTICS", "NUMBER_OF_", "BPS"))
        generic = name == "handler_name" and value.endswith("Handler")
        located = self.strip_location and any(word in name for word in LOCATION_WORDS)
        return statistics or generic or located or name in WRITER_METADATA
