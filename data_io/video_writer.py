"""Video files, written by PyAV with the sound of another."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from data_io.video import BT709, load_av, open_video

LIMITED_RANGE = 1
AAC_RATES = 96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350


class VideoWriter:
    """Writes frames to an H.264 file (MP4) in BT.709's colours; a context manager.

    The file has the size of the first frame; others are fitted into it, with black borders where
    their shape differs. An odd last row or column is cut off, which the format cannot hold.

    Args:
        path: of the file.
        frame_rate: frames a second.
        time_base: the unit of the times that frames are given, in seconds; None: a frame's length.
        sound_of: a video whose sound becomes that of the file.
    """

    def __init__(
        self,
        path: Path,
        frame_rate: Fraction,
        time_base: Fraction | None = None,
        sound_of: Path | None = None,
    ):
        self.path, self.frame_rate, self._library = path, frame_rate, load_av(path)
        self.time_base = time_base or 1 / Fraction(frame_rate)
        self._file = self._library.open(str(path.absolute()), "w", format="mp4")
        self._stream, self._last = None, -1
        self._sound = _sound(sound_of, self._file)
        self._heard = next(self._sound, None)  # before the header is written, which names it

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: Tensor, time: Fraction | None = None) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, shown from `time` on, or after the one before it."""
        height, width = (max(n - n % 2, 2) for n in frame.shape[:2])
        if self._stream is None:
            self._stream = self._file.add_stream("h264", rate=self.frame_rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            context = self._stream.codec_context
            context.time_base = self.time_base
            context.color_range = LIMITED_RANGE
            context.colorspace = context.color_primaries = context.color_trc = BT709
        pixels = _fitted(frame.numpy(), self._stream.height, self._stream.width)
        made = self._library.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
            format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE
        )
        step = 1 / (self.frame_rate * self.time_base)
        at = self._last + step if time is None else time / self.time_base
        self._last = max(round(at), self._last + 1)
        made.pts, made.time_base = self._last, self.time_base
        self._file.mux(self._stream.encode(made))
        while self._heard is not None and self._heard <= self._last * self.time_base:
            self._heard = next(self._sound, None)

    def __exit__(self, error: type | None, *_) -> None:
        if error is None and self._stream is not None:
            self._file.mux(self._stream.encode())
            for _ in self._sound:
                pass
        self._sound.close()
        self._file.close()


def _sound(source: Path | None, target) -> Iterator[Fraction]:
    """Encode the first sound of a video as AAC into another file, in step with its frames.

    The stream is begun before the first time is yielded, each frame is written after its own, in
    seconds. Without a sound, or with one of a codec that PyAV lacks, there is no time.
    """
    if source is None:
        return
    library, (file, _) = load_av(source), open_video(source)
    with file:
        stream = file.streams.best("audio")
        if stream is None or not (stream.codec_context and stream.codec_context.sample_rate):
            return
        rate = min(AAC_RATES, key=lambda each: abs(each - stream.codec_context.sample_rate))
        made = target.add_stream("aac", rate=rate)  # PyAV converts to it
        made.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        start = Fraction(file.start_time or 0, 10**6)
        yield Fraction(0)
        for frame in _undamaged(file.decode(stream), library):
            if frame.pts is not None:
                time = frame.pts * frame.time_base - start
                if time < 0:
                    continue
                # In samples, since AVI counts packets, which is too coarse.
                frame.pts, frame.time_base = round(time * frame.rate), Fraction(1, frame.rate)
                yield time
            try:
                target.mux(made.encode(frame))
            except ValueError:  # of another form than before, or back in time: the rest is silent
                return
        target.mux(made.encode(None))


def _undamaged(frames: Iterator, library) -> Iterator:
    with suppress(library.error.FFmpegError, ValueError):  # the rest is silent
        yield from frames


def _fitted(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (H, W, 3) uint8 of that size: cut by a last row or column, or else fitted in."""
    h, w = pixels.shape[:2]
    if (h - h % 2, w - w % 2) == (height, width):
        return np.ascontiguousarray(pixels[:height, :width])
    return np.array(ImageOps.pad(Image.fromarray(pixels), (width, height)))
