"""Videos as phones, dashcams and recorders leave them: read, and written again as overlays."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from data_io.video import VideoReader, is_video
from data_io.video_writer import VideoWriter
from tests.samples import patched, save

av = pytest.importorskip("av")
SIZE = 144, 176  # height and width, which H.263 takes, too
RED, BLUE = (200, 40, 60), (40, 60, 200)
MS = Fraction(1, 1000)


def flat(color, size=SIZE) -> np.ndarray:
    return np.full((*size, 3), color, np.uint8)


def encode(file, stream, pixels: list[np.ndarray], times=None, **form) -> None:
    """Write frames in some form, at times in milliseconds, or one after the other."""
    for i, image in enumerate(pixels):
        frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(**form)
        frame.pts, frame.time_base = (times[i], MS) if times else (i, 1 / stream.average_rate)
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def add(file, codec="libx264", size=SIZE, rate=25, pix_fmt="yuv420p"):
    stream = file.add_stream(codec, rate=rate)
    (stream.height, stream.width), stream.pix_fmt = size, pix_fmt
    stream.codec_context.gop_size = 10
    return stream


def noise(number: int, size=SIZE) -> list[np.ndarray]:
    """Frames that do not compress to nothing."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (number, size[0] // 8, size[1] // 8, 3), np.uint8)
    return [np.kron(each, np.ones((8, 8, 1), np.uint8)) for each in coarse]


def write(path: Path, codec="libx264", frames=None, times=None, format=None, **options) -> Path:
    frames = noise(25) if frames is None else frames
    with av.open(str(path), "w", format=format, options=options) as file:
        stream = add(file, codec, frames[0].shape[:2])
        if times:
            stream.codec_context.time_base = MS
        encode(file, stream, frames, times)
    return path


def copy(source: Path, target: Path, **options) -> Path:
    reader = VideoReader(source)
    with VideoWriter(target, reader.frame_rate, reader.time_base, **options) as writer:
        for at, frame in reader:
            writer.write(frame.permute(1, 2, 0), at)
    return target


def beep(file, stream, seconds: float) -> None:
    context, rate = stream.codec_context, stream.rate
    size = context.frame_size or 1024
    wave = np.sin(np.arange(int(rate * seconds)) / 20) * 0.4
    for start in range(0, len(wave) - size, size):
        part = wave[start : start + size]
        planes = np.stack([part, part]).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(planes, "fltp", "stereo")
        frame.sample_rate, frame.pts = rate, start
        for each in av.AudioResampler(context.format.name, "stereo", rate).resample(frame):
            file.mux(stream.encode(each))
    file.mux(stream.encode(None))


def colors(reader: VideoReader) -> list[tuple[float, list[int]]]:
    """The time of each frame, and the colour of a pixel in it."""
    return [(round(float(at), 3), frame[:, 40, 40].tolist()) for at, frame in reader]


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [
        ("00001.M2TS", "mpeg2video", "mpegts"),
        ("old phone.3gp", "h263", "3gp"),
        ("MOVI0001.dat", "mpeg4", "avi"),
        ("no suffix", "libvpx", "webm"),
    ],
)
def test_a_video_is_known_whatever_its_suffix(tmp_path, name, codec, format):
    path = write(tmp_path / name, codec, format=format)
    assert is_video(path)
    reader = VideoReader(path)
    assert len(list(reader)) == 25 and reader.damage == ""


def test_sounds_with_a_picture_texts_and_images_are_no_videos(tmp_path):
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as file:
        picture = add(file, "png", pix_fmt="rgb24")
        picture.disposition = av.stream.Disposition.attached_pic
        sound = file.add_stream("aac", rate=44100)
        encode(file, picture, [flat(RED)])
        beep(file, sound, 1)
    (tmp_path / "notes.txt").write_text("The streets of the town.\n" * 100)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttps://example.org/a.ts\n")
    torch.save(torch.zeros(100), tmp_path / "weights.pt")
    save(tmp_path / "raw.dng", flat(RED), format="tiff")
    (tmp_path / "empty.mp4").touch()
    for path in tmp_path.iterdir():
        assert not is_video(path), path.name
        with pytest.raises(ValueError, match=f"{path.name} cannot be read"):
            VideoReader(path)


def test_frames_come_at_their_times_where_the_rate_varies(tmp_path):
    times = [0, 33, 67, 100, 500, 1000, 1033, 2000]  # a phone that it gets dark for
    frames = [flat(RED if at < 1000 else BLUE) for at in times]
    path = write(tmp_path / "phone.mp4", frames=frames, times=times)
    found = colors(VideoReader(path))
    assert [at for at, _ in found] == pytest.approx([at / 1000 for at in times], abs=2e-3)
    assert next(at for at, color in found if color[2] > 150) == pytest.approx(1, abs=2e-3)
    made = colors(VideoReader(copy(path, tmp_path / "copy.mp4")))
    assert [at for at, _ in made] == pytest.approx([at for at, _ in found], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "options", "tells"),
    [
        ("drive.mp4", "libx264", {"movflags": "faststart"}, True),
        ("drive.avi", "mpeg4", {}, True),
        ("drive.mkv", "libx264", {}, True),
        ("drive.flv", "flv", {}, True),
        ("drive.mxf", "mpeg2video", {}, True),
        ("drive.ts", "libx264", {}, False),
        ("drive.wmv", "wmv2", {}, False),
        ("dashcam.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}, False),
    ],
)
def test_of_a_file_that_is_cut_off_what_is_there_is_read(tmp_path, name, codec, options, tells):
    path = write(tmp_path / name, codec, noise(100), **options)
    assert len(list(VideoReader(path))) == 100
    os.truncate(path, path.stat().st_size * 6 // 10 | 1)  # odd: within a packet, of 188 bytes
    reader = VideoReader(path)
    read = len(list(reader))
    assert 40 <= read <= 70
    said = f"{100 - read} of 100 frames ({(100 - read) / 25:.1f} s) are missing"
    unknown = "its end cannot be read, and it does not say how much is missing"
    assert reader.damage == (said if tells else unknown)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
def test_after_a_damaged_part_reading_goes_on_and_says_so(tmp_path, name):
    path = write(tmp_path / name, "mpeg4" if name == "a.mov" else "libx264", noise(200))
    size = path.stat().st_size
    damage = size * 4 // 10, np.random.default_rng(1).bytes(size // 50)
    path.write_bytes(patched(path.read_bytes(), damage))
    reader = VideoReader(path)
    times = [at for at, _ in reader]
    assert len(times) > 150 and times[-1] == pytest.approx(199 / 25, abs=0.1)
    assert "missing" in reader.damage or "damaged" in reader.damage
    if "missing" in reader.damage:
        assert reader.damage.startswith(f"{200 - len(times)} of 200 frames")


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_of_a_file_with_a_long_damaged_part_the_rest_is_read(tmp_path, name):
    path = write(tmp_path / name, "mpeg4" if name == "a.avi" else "libx264", noise(300, (48, 64)))
    with av.open(str(path)) as file:
        packets = [(packet.pos, bytes(packet.size)) for packet in file.demux() if packet.size]
    path.write_bytes(patched(path.read_bytes(), *packets[60:200]))
    reader = VideoReader(path)
    times = [at for at, _ in reader]
    assert times[-1] == 299 / Fraction(25)
    assert reader.damage == f"{300 - len(times)} of 300 frames (5.6 s) are missing"


def test_a_recording_in_parts_with_a_damaged_header_says_how_much_cannot_be_read(tmp_path):
    path = write(tmp_path / "dashcam.mp4", frames=noise(100), movflags="frag_keyframe+empty_moov")
    content = path.read_bytes()
    part = content.index(b"moof", len(content) // 2)
    path.write_bytes(patched(content, (part - 4, bytes([0, 0, 0, 2]) + b"none")))
    reader = VideoReader(path)
    assert 40 <= len(list(reader)) <= 60
    share = 1 - part / len(content)
    assert reader.damage.startswith(f"the last {share:.0%} of it cannot be read")


@pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "a.3gp"])
def test_a_recording_that_was_not_finished_is_told_from_other_damage(tmp_path, name):
    content = write(tmp_path / name).read_bytes()
    index = content.rindex(b"moov") - 4  # behind the frames
    for length in (index, index * 2 // 3, index + 60):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{name} lacks the index of its frames"):
            VideoReader(tmp_path / name)


@pytest.mark.parametrize(
    ("aspect", "turned", "size", "top"),
    [
        (Fraction(4, 3), 0, (144, 235), RED),
        (Fraction(1, 2), 0, (288, 176), RED),
        (1, 90, SIZE[::-1], BLUE),  # counterclockwise
        (1, 270, SIZE[::-1], RED),
    ],
)
def test_frames_have_square_pixels_and_are_upright(tmp_path, aspect, turned, size, top):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = add(file)
        stream.codec_context.sample_aspect_ratio = aspect
        stream.set_display_rotation(turned)
        encode(file, stream, [np.hstack([flat(RED), flat(BLUE)])[:, 88:264]] * 3)
    for _, frame in VideoReader(tmp_path / "a.mp4"):
        assert tuple(frame.shape[1:]) == size
        assert frame[:, 5, 72].tolist() == pytest.approx(top, abs=15)


@pytest.mark.parametrize("larger", [(288, 352), (240, 160)])
def test_a_size_that_changes_is_read_as_it_is_and_fitted_in_undistorted(tmp_path, larger):
    joined = tmp_path / "joined.ts"
    with joined.open("wb") as file:
        for size in (SIZE, larger):
            part = write(tmp_path / f"{size[0]}.ts", frames=[flat(RED, size)] * 30)
            file.write(part.read_bytes())
    found = list(VideoReader(joined))
    assert {tuple(frame.shape[1:]) for _, frame in found} == {SIZE, larger}
    assert [round(float(at) * 25) for at, _ in found] == [*range(len(found))]
    with VideoWriter(tmp_path / "out.mp4", 25) as writer:
        writer.write(torch.from_numpy(flat(RED)))
        writer.write(torch.from_numpy(flat(BLUE, larger)))
    _, (_, last) = VideoReader(tmp_path / "out.mp4")
    assert tuple(last.shape[1:]) == SIZE
    blue = (last[2] > 150).float()
    height, width = blue.amax(1).sum().item(), blue.amax(0).sum().item()
    assert width / height == pytest.approx(larger[1] / larger[0], rel=0.05)


@pytest.mark.parametrize(
    ("size", "matrix", "full"), [((720, 1280), 1, False), ((240, 320), 5, False), (SIZE, 1, True)]
)
@pytest.mark.parametrize("tagged", [True, False])
def test_colours_are_those_of_a_player(tmp_path, size, matrix, full, tagged):
    if full and not tagged:
        pytest.skip("a range that no tag tells is taken for the usual one")
    path, how = tmp_path / "a.mp4", 2 if full else 1
    with av.open(str(path), "w") as file:
        stream = add(file, size=size)
        stream.options = {"crf": "5"}
        if tagged:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, how
        form = {"format": "yuv420p", "dst_colorspace": matrix, "dst_color_range": how}
        encode(file, stream, [flat(RED, size)] * 3, **form)
    (_, frame), *_ = VideoReader(path)
    assert frame[:, 40, 40].tolist() == pytest.approx(RED, abs=5)


def test_of_several_streams_the_one_that_is_marked_is_read(tmp_path):
    path = tmp_path / "two cameras.mkv"
    with av.open(str(path), "w") as file:
        rear, front = add(file), add(file)
        rear.disposition, front.disposition = 0, av.stream.Disposition.default
        encode(file, rear, [flat(BLUE)] * 10)
        encode(file, front, [flat(RED)] * 10)
    assert all(color[0] > 150 for _, color in colors(VideoReader(path)))


def test_an_overlay_is_tagged_as_bt709_and_has_these_colours(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", Fraction(30000, 1001)) as writer:
        for _ in range(3):
            writer.write(torch.from_numpy(flat(RED)))
    with av.open(str(tmp_path / "a.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert context.color_range == 1
        assert file.streams.video[0].average_rate == Fraction(30000, 1001)
    (_, frame), *_ = VideoReader(tmp_path / "a.mp4")
    assert frame[:, 40, 40].tolist() == pytest.approx(RED, abs=5)


@pytest.mark.skipif(os.name == "nt", reason="names hold no colon there")
def test_a_name_with_a_colon_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("2026-11-30T12:30:00.mp4")
    copy(write(tmp_path / "a.mp4"), path)
    assert is_video(path) and len(list(VideoReader(path))) == 25
    Path("12:30.log").write_text("no video")
    assert not is_video(Path("12:30.log"))


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp4", "aac", 48000),
        ("a.ts", "aac", 48000),
        ("a.mkv", "libopus", 48000),
        ("a.avi", "pcm_s16le", 48000),
        ("a.avi", "libmp3lame", 48000),
        ("a.flv", "libmp3lame", 48000),
        ("a.mov", "pcm_s16le", 48000),
        ("a.avi", "pcm_s16le", 11024),  # of old cameras, which AAC lacks
        ("a.ts", "mp2", 48000),
    ],
)
def test_sound_is_kept_and_in_time(tmp_path, name, codec, rate):
    source = tmp_path / name
    with av.open(str(source), "w") as file:
        stream = add(file, {"a.avi": "mpeg4", "a.flv": "flv"}.get(name, "libx264"))
        sound = file.add_stream(codec, rate=rate)
        encode(file, stream, [flat(RED)] * 50)
        beep(file, sound, 2)
    with av.open(str(copy(source, tmp_path / "out.mp4", sound_of=source))) as file:
        (stream,) = file.streams.audio
        assert stream.codec_context.name == "aac"
        heard = [frame for frame in file.decode(stream)]
        length = sum(frame.samples for frame in heard) / stream.rate
        assert length == pytest.approx(2, abs=0.15)
        assert float(heard[0].time) == pytest.approx(0, abs=0.1)
        assert np.abs(heard[len(heard) // 2].to_ndarray()).max() > 0.1
