import torch
from matplotlib.figure import Figure

from figures import (
    plot_confusion,
    plot_curves,
    plot_iou,
    plot_predictions,
    plot_samples,
    plot_unet,
    summarize,
    trace_sizes,
)
from model import UNet
from utils import CLASS_NAMES, ConfusionMatrix


def test_every_figure_can_be_drawn(tmp_path):
    generator = torch.Generator().manual_seed(5)
    target = torch.randint(2, 9, (2, 40, 60), generator=generator)
    prediction = torch.randint(4, 12, (2, 40, 60), generator=generator)
    target[torch.rand(2, 40, 60, generator=generator) < 0.2] = 255
    confusion = ConfusionMatrix(19)
    confusion.update(target, prediction)
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    keys = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "mIoU")
    history = [{"epoch": i + 1, **dict.fromkeys(keys, 0.5 + i / 10)} for i in range(3)]
    iou = {
        n: None if v.isnan() else v.item() for n, v in zip(CLASS_NAMES, confusion.iou, strict=True)
    }
    figures = [
        plot_samples([(image, target[0]), (image, target[1])]),
        plot_predictions([("a scene", image, target[0], prediction[0])]),
        plot_predictions([("no picture", None, target[0], prediction[0])]),
        plot_curves(history),
        plot_iou(iou),
        plot_confusion(confusion),
        plot_unet(UNet(width=4), 40, 60),
        plot_unet(UNet(width=4, depth=2, padding="valid", batch_norm=False), 100, 100),
    ]
    for i, figure in enumerate(figures):
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").stat().st_size > 3000


def test_iou_bars_are_sorted_and_leave_absent_classes_out():
    ax = plot_iou({"road": 0.5, "sky": 0.9, "car": None, "wall": 0.1}).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["sky", "road", "wall"]
    assert "mean 50.0%" in [text.get_text() for text in ax.texts]


def test_the_architecture_is_drawn_with_the_sizes_of_the_paper():
    paper = UNet(1, 2, 64, padding="valid", batch_norm=False)
    sizes = [shape[1] for shape in trace_sizes(paper, 572, 572).values()]
    assert sizes == [570, 568, 282, 280, 138, 136, 66, 64, 30, 28] + [
        56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388,
    ]  # fmt: skip
    texts = {text.get_text() for text in plot_unet(paper, 572, 572).axes[0].texts}
    assert {"572×572", "392×392", "388×388", "1024", "copy and crop"} <= texts


def test_the_summary_counts_every_parameter():
    model = UNet(width=8, depth=3)
    total = sum(p.numel() for p in model.parameters())
    assert summarize(model, 64, 96).endswith(f"{total:,}")
