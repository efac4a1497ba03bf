"""Video files, read by PyAV, which is optional: `pip install av`."""

import os
import struct
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
LENGTH_IN_HEADER = "mov", "matroska", "avi", "asf", "flv", "mxf"  # others are as long as they are
MPEGTS_PACKETS = 188, 192  # bytes
BT709 = 1  # of FFmpeg: matrix, primaries and transfer curve of HD video
MOST_FAILURES = 100  # without a packet read between, after which a file is taken to be at its end


def load_av(path: Path):
    """PyAV. Raises ValueError, with the file's name, without it."""
    try:
        import av
    except ImportError:
        raise ValueError(f"{path} is a video, which needs PyAV: `pip install av`") from None
    return av


def open_video(path: Path):
    """The open file, and the video stream that a player would show.

    That is FFmpeg's choice: the stream marked as the default, then the one of most data, but no
    picture of an album or preview. Raises OSError or ValueError, FFmpeg's errors among them.
    """
    av = load_av(path)
    # Absolute, since FFmpeg takes what comes before a colon for a protocol; and no network.
    file = av.open(str(path.absolute()), options={"protocol_whitelist": "file,crypto,data"})
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
        file, _ = open_video(path)
    except Exception:  # FFmpeg's errors have many bases
        return False
    file.close()
    return True


class VideoReader:
    """The frames of a video file, as a player shows them.

    Attributes:
        frame_rate: frames a second, on average.
        time_base: the unit of the frames' times, in seconds.
        frames: how many there are by the file's header, or None if it does not say.
        damage: after the last frame, how much could not be read; "" for an intact file.

    Raises FileNotFoundError, or ValueError for a file that is no video, and without PyAV.
    """

    def __init__(self, path: Path):
        self.path, self.damage = path, ""
        if not path.is_file():
            raise FileNotFoundError(f"there is no video at {path}: correct the path")
        try:
            file, stream = open_video(path)
        except (load_av(path).error.FFmpegError, OSError, ValueError) as error:
            cause = f"cannot be read as a video ({error}): restore it from where it came"
            if _lacks_index(path):
                cause = (
                    "lacks the index of its frames (moov), which a camera or a download writes at "
                    "the end: restore it, or have a tool such as `untrunc` rebuild the index from "
                    "another recording of that camera"
                )
            raise ValueError(f"{path} {cause}") from error
        with file:
            if stream.codec_context is None:
                raise ValueError(f"{path} is of a codec that PyAV lacks: convert it to H.264 (MP4)")
            self.frame_rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.time_base, self.frames = stream.time_base, stream.frames or None

    def __iter__(self) -> Iterator[tuple[Fraction, Tensor]]:
        """Each frame's time in seconds from the file's start, and the frame, (3, H, W) uint8 RGB.

        Frames are upright, their pixels square. Times rise, also where a file was put together
        from several; one whose time is not known follows the frame before it by 1 / `frame_rate`.
        What cannot be decoded is skipped, and counted in `damage`. Raises ValueError if no
        frame can be read.
        """
        self._errors, self._end, self._read, self.damage, times = 0, Fraction(0), 0, "", []
        self._fell_back = False  # the time of packets; that of frames does behind damage, too
        file, stream = open_video(self.path)
        with file:
            starts = [s.start_time * s.time_base for s in file.streams if s.start_time is not None]
            start, step, jump = min(starts, default=Fraction(0)), 1 / self.frame_rate, Fraction(0)
            for frame in self._decode(file, stream, start):
                last = times[-1] if times else -step
                time = last + step
                if frame.pts is not None and frame.time_base is not None:
                    time = frame.pts * frame.time_base - start + jump
                if time <= last - 1 and times and self._fell_back:  # the start of another file
                    jump, self._fell_back = jump + last + step - time, False
                    time = last + step
                times.append(max(time, last + step / 8, Fraction(0)))  # damaged ones come late
                yield times[-1], _square(frame, stream)
            self._tell_damage(file, times)

    def _decode(self, file, stream, start: Fraction) -> Iterator:
        """The frames that can be decoded. Counts errors, and notes where the last packet ends."""
        failures, stuck, flushed = 0, 0, False  # since a frame, and since a packet, was read
        intact, dts = 0, 0  # packets since the last damaged one; the time of the last one
        wanted = [stream, *file.streams.audio]
        packets = file.demux(wanted)
        while stuck < MOST_FAILURES and not flushed:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                stuck = 0 if packet.size else stuck
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base - start
                    self._end = max(self._end, end)
                self._read = max(self._read, (packet.pos or 0) + packet.size)
                if packet.stream_index != stream.index:
                    continue
                if packet.dts is not None:
                    before, dts = dts, packet.dts * packet.time_base
                    self._fell_back |= dts <= before - 1
                self._errors += packet.is_corrupt
                intact = 0 if packet.is_corrupt else intact + 1
                flushed = packet.size == 0 and packet.pts is None
                frames = packet.decode()
            except load_av(self.path).error.FFmpegError:  # of the demuxer, or of the decoder
                failures, stuck, self._errors, intact = failures + 1, stuck + 1, self._errors + 1, 0
                packets = file.demux(wanted)
                continue
            failures = 0 if packet.size else failures
            yield from frames
        self._ends_badly, self._ends_corrupt = failures > 0, self._errors > 0 and intact < 5
        try:  # without this, the decoder keeps the last frames of a file that ends in an error
            yield from () if flushed else stream.codec_context.decode(None)
        except load_av(self.path).error.FFmpegError:
            pass

    def _tell_damage(self, file, times: list[Fraction]) -> None:
        if not times:
            raise ValueError(f"{self.path} holds no frame that can be read: restore it")
        kind, size = file.format.name.split(",")[0], self.path.stat().st_size
        in_parts = kind == "mov" and not self.frames  # a fragmented MP4 knows those that are there
        length, unread = self._end, in_parts * (1 - self._read / size)
        if kind in LENGTH_IN_HEADER and file.duration and not in_parts:
            kind, length = "of known length", max(Fraction(file.duration, 10**6), self._end)
        signs_of_a_cut = {
            "of known length": self._end < length - Fraction(3, 2) / self.frame_rate,
            "mov": unread > 0.05 or self._errors > 0,  # also where a part's header is damaged
            "mpegts": all(size % packet for packet in MPEGTS_PACKETS),
            "avi": True,  # FFmpeg knows its length, and that of ASF, where the end is there
            "asf": True,
        }
        is_cut = signs_of_a_cut.get(kind, self._ends_corrupt)
        is_cut = is_cut or (self._ends_badly and length == self._end)
        expected = self.frames or round(length * self.frame_rate)
        missing = expected - len(times)
        if is_cut and length == self._end and not self.frames:
            how_much = f"the last {unread:.0%} of it" if unread > 0.05 else "its end"
            self.damage = f"{how_much} cannot be read, and it does not say how much is missing"
        elif missing > 0 and (is_cut or self._errors or _has_gaps(times)):
            seconds = float(missing / self.frame_rate)
            self.damage = f"{missing:,} of {expected:,} frames ({seconds:.1f} s) are missing"
        elif self._errors:
            self.damage = f"{self._errors:,} of its packets are damaged, whose frames may look odd"


def _lacks_index(path: Path) -> bool:
    """Whether a file is an MP4 or MOV that was not written to its end, by its boxes."""
    if not os.access(path, os.R_OK):
        return False
    kinds, start, size = [], 0, path.stat().st_size
    with open(path, "rb") as file:
        while len(head := file.read(16)) >= 8:
            length, kind = struct.unpack(">I4s", head[:8])
            length = int.from_bytes(head[8:]) if length == 1 else length
            kinds.append(kind if start + length <= size else b"")
            if length < 8 or start + length > size:  # 0: to the end
                break
            start += length
            file.seek(start)
    return kinds[:1] == [b"ftyp"] and b"moov" not in kinds


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
