"""Video files, read and written by PyAV, which is optional: `pip install av`."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


def _av(path: Path):
    try:
        import av
    except ImportError:
        raise ValueError(f"{path} is a video, which needs PyAV: `pip install av`") from None
    return av


class VideoReader:
    """The frames of a video file.

    Attributes:
        frame_rate: frames a second.
        frames: how many there are by the file's header, or None if it does not say.

    Raises FileNotFoundError, or ValueError for a file that is no video, and without PyAV.
    """

    def __init__(self, path: Path):
        self.path, self._library = path, _av(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no video at {path}: correct the path")
        try:
            with self._library.open(str(path)) as file:
                stream = file.streams.video[0]
                self.frame_rate = stream.average_rate or Fraction(25)
                self.frames = stream.frames or None
        except (self._library.error.FFmpegError, IndexError) as error:
            raise ValueError(f"{path} cannot be read as a video ({error})") from error

    def __iter__(self) -> Iterator[Tensor]:
        """Upright frames, (3, H, W) uint8 RGB."""
        with self._library.open(str(self.path)) as file:
            try:
                for frame in file.decode(video=0):
                    turns = round(getattr(frame, "rotation", 0) / 90)  # counterclockwise
                    image = np.rot90(frame.to_ndarray(format="rgb24"), turns)
                    yield torch.from_numpy(image.copy()).permute(2, 0, 1)
            except self._library.error.FFmpegError as error:
                raise ValueError(f"{self.path} is damaged ({error}): restore it") from error


class VideoWriter:
    """Writes frames to an H.264 file (MP4); a context manager.

    Frames are (H, W, 3) uint8 RGB, all of one size; an odd last row or column is cut off, which
    the format cannot hold.
    """

    def __init__(self, path: Path, frame_rate: Fraction):
        self.path, self.frame_rate, self._library = path, frame_rate, _av(path)
        self._file = self._library.open(str(path), "w", format="mp4")
        self._stream = None

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: Tensor) -> None:
        height, width = (n - n % 2 for n in frame.shape[:2])
        if self._stream is None:
            self._stream = self._file.add_stream("h264", rate=self.frame_rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
        image = np.ascontiguousarray(frame[:height, :width].numpy())
        self._file.mux(self._stream.encode(self._library.VideoFrame.from_ndarray(image, "rgb24")))

    def __exit__(self, *_) -> None:
        if self._stream is not None:
            self._file.mux(self._stream.encode())
        self._file.close()
