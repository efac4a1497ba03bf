"""Video files, read and written by PyAV, which is optional: `pip install av`."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# What is taken for a video without a look into it; other files are, if PyAV finds a video there.
VIDEO_SUFFIXES = {f".{name}" for name in "mp4 mov m4v avi mkv webm mpg mpeg ts mts m2ts".split()}
VIDEO_SUFFIXES |= {f".{name}" for name in "3gp 3g2 wmv asf flv ogv vob mxf".split()}
NO_VIDEO = "tty", "image2", "jpegxl_anim"  # FFmpeg's readers of text and of single images
LENGTH_IN_HEADER = "mov", "matroska", "avi", "asf", "flv"  # others are as long as they are
ALWAYS_OF_LENGTH = "avi", "asf"  # whose length FFmpeg does not know where the end is missing
MPEGTS_PACKETS = 188, 192  # bytes
BT709 = 1  # of FFmpeg: matrix, primaries and transfer curve of HD video
LIMITED_RANGE = 1
COPIED_SOUND = "aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"  # what players take in an MP4
MOST_FAILURES = 100  # one after the other, after which a file is taken to be at its end


def _av(path: Path):
    try:
        import av
    except ImportError:
        raise ValueError(f"{path} is a video, which needs PyAV: `pip install av`") from None
    return av


def _open(path: Path):
    """The open file, and the video stream that a player would show.

    That is FFmpeg's choice: the stream marked as the default, then the one of most data, but no
    picture of an album or preview. Raises OSError or ValueError, FFmpeg's errors among them.
    """
    av = _av(path)
    file = av.open(str(path), options={"protocol_whitelist": "file,crypto,data"})  # no network
    try:
        pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        streams = [s for s in file.streams.video if not s.disposition & pictures]
        name = file.format.name
        if not streams or name.endswith("_pipe") or name.split(",")[0] in NO_VIDEO:
            raise ValueError("it holds no video")
        best = file.streams.best("video")
        return file, best if best in streams else streams[0]
    except BaseException:
        file.close()
        raise


def is_video(path: Path) -> bool:
    """Whether PyAV is installed and finds a video in a file."""
    try:
        file, _ = _open(path)
    except (OSError, ValueError):
        return False
    file.close()
    return True


class VideoReader:
    """The frames of a video file, as a player shows them.

    Attributes:
        frame_rate: frames a second, on average.
        time_base: the unit of the frames' times, in seconds.
        frames: how many there are by the file's header, or None if it does not say.
        damage: after the last frame, how much could not be read; "" for a file that is whole.

    Raises FileNotFoundError, or ValueError for a file that is no video, and without PyAV.
    """

    def __init__(self, path: Path):
        self.path, self.damage = path, ""
        if not path.is_file():
            raise FileNotFoundError(f"there is no video at {path}: correct the path")
        try:
            file, stream = _open(path)
        except (_av(path).error.FFmpegError, OSError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be read as a video ({error}): restore it; if the camera stopped "
                "before it wrote the file's index, a tool such as `untrunc` may rebuild that"
            ) from error
        with file:
            self.frame_rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.time_base, self.frames = stream.time_base, stream.frames or None

    def __iter__(self) -> Iterator[tuple[Fraction, Tensor]]:
        """Each frame's time in seconds from the file's start, and the frame, (3, H, W) uint8 RGB.

        Frames are upright, their pixels square. Times rise, also where a file was put together
        from several; one whose time is not known follows the frame before it by 1 / `frame_rate`.
        What cannot be decoded is passed over, and counted in `damage`. Raises ValueError if no
        frame can be read.
        """
        self._errors, self._end, self.damage, times = 0, Fraction(0), "", []
        file, stream = _open(self.path)
        with file:
            starts = [s.start_time * s.time_base for s in file.streams if s.start_time is not None]
            start, step, jump = min(starts, default=Fraction(0)), 1 / self.frame_rate, Fraction(0)
            for frame in self._decode(file, stream, start):
                last = times[-1] if times else -step
                time = last + step
                if frame.pts is not None and frame.time_base is not None:
                    time = frame.pts * frame.time_base - start + jump
                if time <= last - 1 and times:  # the start of another file
                    jump += last + step - time
                    time = last + step
                times.append(max(time, last + step / 8, Fraction(0)))  # damaged ones come late
                yield times[-1], _square(frame, stream)
            self._tell_damage(file, times)

    def _decode(self, file, stream, start: Fraction) -> Iterator:
        """The frames that can be decoded. Counts errors, and notes where the last packet ends."""
        failures, flushed = 0, False
        wanted = [stream, *file.streams.audio]
        packets = file.demux(wanted)
        while failures < MOST_FAILURES and not flushed:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base - start
                    self._end = max(self._end, end)
                if packet.stream_index != stream.index:
                    continue
                self._errors += packet.is_corrupt
                flushed = packet.size == 0 and packet.pts is None
                frames = packet.decode()
            except _av(self.path).error.FFmpegError:  # of the demuxer, or of the decoder
                failures, self._errors = failures + 1, self._errors + 1
                packets = file.demux(wanted)
                continue
            failures = 0 if packet.size else failures
            yield from frames
        self._ends_badly = failures > 0
        try:  # a file that ends in an error has not told the decoder so
            yield from () if flushed else stream.codec_context.decode(None)
        except _av(self.path).error.FFmpegError:
            pass

    def _tell_damage(self, file, times: list[Fraction]) -> None:
        if not times:
            raise ValueError(f"{self.path} holds no frame that can be read: restore it")
        name, size = file.format.name.split(",")[0], self.path.stat().st_size
        length, is_cut = self._end, False
        in_parts = name == "mov" and not self.frames  # a fragmented MP4 knows those that are there
        if name in LENGTH_IN_HEADER and file.duration and not in_parts:
            length = max(Fraction(file.duration, 10**6), self._end)
            is_cut = self._end < length - Fraction(3, 2) / self.frame_rate
        elif name == "mpegts":
            is_cut = all(size % packet for packet in MPEGTS_PACKETS)
        else:
            is_cut = name in ALWAYS_OF_LENGTH or (in_parts and self._errors > 0)
        is_cut = is_cut or (self._ends_badly and length == self._end)
        expected = self.frames or round(length * self.frame_rate)
        missing = expected - len(times)
        if is_cut and length == self._end and not self.frames:
            self.damage = "its end is cut off, and it does not say how much is missing"
        elif missing > 0 and (is_cut or self._errors or _has_gaps(times)):
            seconds = float(missing / self.frame_rate)
            self.damage = f"{missing:,} of {expected:,} frames ({seconds:.1f} s) are missing"
        elif self._errors:
            self.damage = f"{self._errors:,} of its packets are damaged, whose frames may look odd"


def _has_gaps(times: list[Fraction]) -> bool:
    """Whether frames of a constant rate are missing: two or more, as cameras leave out one."""
    steps = np.diff(np.array(times, dtype=float))
    if len(steps) < 10:
        return False
    usual = np.median(steps)
    is_constant = (np.abs(steps - usual) <= 0.1 * usual).mean() >= 0.9
    return bool(is_constant and steps.max() >= 2.5 * usual)


def _square(frame, stream) -> Tensor:
    """A frame as RGB with square pixels, upright: (3, H, W) uint8."""
    aspect = stream.sample_aspect_ratio or Fraction(1)  # width of a pixel by its height
    width, height = frame.width, frame.height
    if aspect > 1:
        width = round(width * aspect)
    elif aspect:
        height = round(height / aspect)
    # HD video without a tag is BT.709 to players; FFmpeg would take it for BT.601.
    untagged_hd = frame.colorspace not in (1, 4, 5, 6, 7, 9, 10) and frame.height >= 720
    frame = frame.reformat(width, height, "rgb24", BT709 if untagged_hd else None)
    turns = round(getattr(frame, "rotation", 0) / 90)  # counterclockwise
    return torch.from_numpy(np.rot90(frame.to_ndarray(), turns).copy()).permute(2, 0, 1)


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
        self.path, self.frame_rate, self._library = path, frame_rate, _av(path)
        self.time_base = time_base or 1 / Fraction(frame_rate)
        self._file = self._library.open(str(path), "w", format="mp4")
        self._stream, self._last = None, -1
        self._sound = sound_of and _Sound(sound_of, self._file)

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
        self._last = max(round(at), self._last + 1) if self._last >= 0 else max(round(at), 0)
        made.pts, made.time_base = self._last, self.time_base
        self._file.mux(self._stream.encode(made))
        if self._sound:
            self._sound.copy(until=self._last * self.time_base)

    def __exit__(self, *_) -> None:
        if self._stream is not None:
            self._file.mux(self._stream.encode())
        if self._sound:
            self._sound.copy(until=None)
            self._sound.close()
        self._file.close()


class _Sound:
    """The first sound of a video, copied into another file, or encoded where MP4 lacks its form."""

    def __init__(self, path: Path, target):
        self._library, self._target = _av(path), target
        self._source, _ = _open(path)
        self._start = Fraction(self._source.start_time or 0, 10**6)
        stream = self._source.streams.best("audio")
        self._packets = iter(() if stream is None else self._source.demux(stream))
        self._waiting = self._stream = None
        if stream is not None and stream.codec_context.name in COPIED_SOUND:
            self._stream, self._is_copied = target.add_stream_from_template(stream), True
        elif stream is not None:
            self._stream = target.add_stream("aac", rate=stream.codec_context.sample_rate)
            self._stream.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
            self._is_copied = False

    def copy(self, until: Fraction | None) -> None:
        """Write what is heard up to a time in seconds; None: all that is left."""
        while self._stream is not None:
            try:
                packet = self._waiting or next(self._packets, None)
                self._waiting = None
                if packet is None:
                    self._stream = None
                    return
                if packet.dts is None:
                    self._encode(packet)
                    continue
                time = packet.dts * packet.time_base - self._start
                if until is not None and time > until:
                    self._waiting = packet
                    return
                if time >= 0:
                    self._encode(packet)
            except (self._library.error.FFmpegError, ValueError):  # damaged: the rest is silent
                self._packets = iter(())

    def _encode(self, packet) -> None:
        shift = round(self._start / packet.time_base)
        if self._is_copied:
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._stream
                self._target.mux(packet)
            return
        is_last = packet.dts is None
        for frame in packet.decode():
            frame.pts = None if frame.pts is None else frame.pts - shift
            self._target.mux(self._stream.encode(frame))
        if is_last:
            self._target.mux(self._stream.encode(None))

    def close(self) -> None:
        self._source.close()


def _fitted(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (H, W, 3) uint8 of that size: cut by a last row or column, or else fitted in."""
    h, w = pixels.shape[:2]
    if (h - h % 2, w - w % 2) == (height, width):
        return np.ascontiguousarray(pixels[:height, :width])
    from PIL import Image, ImageOps

    return np.array(ImageOps.pad(Image.fromarray(pixels), (width, height)))
