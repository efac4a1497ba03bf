"""The README's first pictures, made by the published networks.

    python -m docs.pictures data/camvid

images/banner.png: drawn scenes at full resolution, with the labels of checkpoints/streets-512.pt
over their right half, and label maps of CamVid's val by checkpoints/camvid.pt. images/drive.gif:
the label maps of all 101 frames of that drive. No photograph of CamVid is in them.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from dataset import Cityscapes
from figures import colorize
from inference import load_model, predict
from runtime.console import command_line, errors_shown
from runtime.machine import ROOT
from streets import draw_tree

IMAGES = ROOT / "images"
WIDTH, GAP, SCENE = 1660, 12, (1024, 512)  # pixels; GitHub shows half of this width
CHOSEN, FRAMES = (2, 28), (0, 45, 100)  # of 40 scenes that are drawn, and of CamVid's val
GREY = (128, 134, 144)  # that can be read on white and on black


def half_labelled(image: torch.Tensor, labels: torch.Tensor) -> Image.Image:
    """An image (3, H, W) whose right half is under the colours of its labels (H, W)."""
    pixels = image.permute(1, 2, 0).float()
    middle = pixels.shape[1] // 2
    pixels[:, middle:] = pixels[:, middle:].lerp(colorize(labels)[:, middle:].float(), 0.75)
    pixels[:, middle - 1 : middle + 1] = 255
    return Image.fromarray(pixels.byte().numpy())


def legend(classes, present: list[int]) -> Image.Image:
    """Two rows of class names, on nothing, so that it suits light and dark pages."""
    strip = Image.new("RGBA", (WIDTH, 116))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(34)
    columns = -(-len(present) // 2)
    for number, index in enumerate(present):
        x, y = number % columns * WIDTH // columns, number // columns * 58 + 10
        draw.rounded_rectangle((x, y, x + 34, y + 34), 6, fill=classes.colors[index])
        draw.text((x + 46, y - 4), classes.names[index], fill=GREY, font=font)
    return strip


def banner(*rows: list[Image.Image]) -> Image.Image:
    """Rows of pictures, each as wide as the banner."""
    sheet, y = Image.new("RGBA", (WIDTH, 2000)), 0
    for pictures in rows:
        width = (WIDTH - GAP * (len(pictures) - 1)) // len(pictures)
        for i, picture in enumerate(pictures):
            height = picture.height * width // picture.width
            sheet.paste(picture.resize((width, height), Image.LANCZOS), (i * (width + GAP), y))
        y += height + GAP
    return sheet.crop((0, 0, WIDTH, y))


@errors_shown()
def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("camvid", type=Path, help="as python -m prepare.camvid wrote it")
    args = parser.parse_args()
    drawn_only, model = (
        load_model(ROOT / f"checkpoints/{n}.pt") for n in ("streets-512", "camvid")
    )
    with tempfile.TemporaryDirectory() as folder:
        draw_tree(Path(folder), train=0, val=40, size=SCENE, quiet=True)
        drawn = Cityscapes(folder, "val")
        images = [drawn[index][0] for index in CHOSEN]
    drive = Cityscapes(args.camvid, "val")
    found = [predict(model, drive[i][0]) for i in tqdm(range(len(drive)), desc="drive")]
    seen = [predict(drawn_only, image, scale=0.5) for image in images]
    shown = [labels[:, labels.shape[1] // 2 :] for labels in seen] + [found[i] for i in FRAMES]
    parts = [labels.flatten().bincount(minlength=19) / labels.numel() for labels in shown]
    present = (torch.stack(parts).amax(0) > 0.002).nonzero().flatten().tolist()
    scenes = [half_labelled(*each) for each in zip(images, seen, strict=True)]
    maps = [Image.fromarray(colorize(labels).numpy()) for labels in found]
    names = legend(drive.classes, present)
    sheet = banner(scenes, [maps[i] for i in FRAMES], [names])
    sheet.quantize(256, Image.Quantize.FASTOCTREE).save(IMAGES / "banner.png", optimize=True)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.array(drive.classes.colors, dtype=np.uint8).tobytes())
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in maps]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 67, "loop": 0}
    frames[0].save(IMAGES / "drive.gif", **animated)


if __name__ == "__main__":
    main()
