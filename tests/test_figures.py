import pytest
import torch
from torch import nn

import figures
from architecture import plot_unet, summarize, trace_sizes
from model import UNet
from utils import CITYSCAPES, Classes, ConfusionMatrix

OWN = Classes(("grass", "path", "pond"), (1, 2, 3), ((0, 200, 0), (120, 90, 60), (0, 0, 250)))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [pytest.param(CITYSCAPES), OWN], ids=["cityscapes", "own"])
def test_every_figure_of_results_can_be_drawn(classes, tmp_path):
    target = torch.randint(0, 2, (2, 40, 60))
    prediction = torch.randint(0, 3, (2, 40, 60))
    target[torch.rand(2, 40, 60) < 0.2] = 255
    confusion = ConfusionMatrix(len(classes))
    confusion.update(target, prediction)
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    keys = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "mIoU")
    history = [{"epoch": i + 1, **dict.fromkeys(keys, 0.5 + i / 10)} for i in range(3)]
    values = [None if v.isnan() else v.item() for v in confusion.iou]
    drawn = [
        figures.plot_samples([(image, target[0]), (image, target[1])], classes),
        figures.plot_predictions([("a scene", image, target[0], prediction[0])], classes),
        figures.plot_curves(history),
        figures.plot_iou(dict(zip(classes.names, values, strict=True)), classes),
        figures.plot_confusion(confusion, classes),
    ]
    for i, figure in enumerate(drawn):
        figure.savefig(tmp_path / f"{i}.png", dpi=40)
        assert (tmp_path / f"{i}.png").stat().st_size > 1000
    for figure in drawn[:2]:  # the classes that are seen, in the legend
        names = {text.get_text() for text in figure.legends[0].get_texts()}
        assert names - {"ignored"} <= set(classes.names[:3])
        assert {classes.names[0], classes.names[1]} <= names
    assert [t.get_text() for t in drawn[-1].axes[0].get_yticklabels()] == list(classes.names[:3])


def test_labels_have_their_colours_and_the_error_map_is_red_where_wrong_and_white_where_ignored():
    truth = torch.tensor([[0, 1, 255]])
    assert figures.colorize(truth, OWN).tolist() == [[[0, 200, 0], [120, 90, 60], [0, 0, 0]]]
    image = torch.zeros(3, 1, 3, dtype=torch.uint8)
    figure = figures.plot_predictions([("", image, truth, torch.tensor([[0, 2, 2]]))], OWN)
    right, wrong, ignored = figure.axes[3].images[0].get_array()[0].tolist()
    assert len(set(right)) == 1
    assert wrong[0] > 2 * max(wrong[1:])
    assert ignored == [255, 255, 255]


def test_iou_bars_are_sorted_and_leave_absent_classes_out():
    ax = figures.plot_iou({"road": 0.5, "sky": 0.9, "car": None, "wall": 0.1}).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["sky", "road", "wall"]
    assert [bar.get_width() for bar in ax.patches] == [0.9, 0.5, 0.1]
    assert any("50.0%" in text.get_text() for text in ax.texts)  # the mean


@pytest.mark.slow
def test_the_architecture_is_drawn_with_the_sizes_of_the_paper():
    paper = UNet(1, 2, padding="valid", batch_norm=False)
    sizes = [shape[1] for shape in trace_sizes(paper, 572, 572).values()]
    assert sizes == [570, 568, 282, 280, 138, 136, 66, 64, 30, 28] + [
        56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388,
    ]  # fmt: skip
    texts = {text.get_text() for text in plot_unet(paper, 572, 572).axes[0].texts}
    assert {"572×572", "392×392", "388×388", "1024", "copy and crop"} <= texts


def test_the_summary_counts_every_parameter():
    model = UNet(width=8, depth=3)
    *levels, total = summarize(model, 64, 96).splitlines()[1:]
    counts = [int(line.split()[-1].replace(",", "")) for line in levels]
    assert len(counts) == 4
    assert sum(counts) == int(total.replace(",", ""))
    assert sum(counts) == sum(p.numel() for p in model.parameters())
    small = UNet(width=4, padding="valid")  # sees an image of that size once it is extended
    assert len(summarize(small, 64, 96).splitlines()) == 1 + 5 + 1


def test_an_overlay_mixes_image_and_colours_outlines_thin_things_and_names_the_classes_below():
    image = torch.full((3, 40, 60), 100, dtype=torch.uint8)
    labels = torch.full((40, 60), 2, dtype=torch.uint8)  # building
    labels[:, 30:32] = 5  # a pole of two pixels
    pole, building = (torch.tensor(CITYSCAPES.colors[i]) for i in (5, 2))
    for alpha in (0.0, 0.5):
        drawn = figures.overlay(image, labels, alpha=alpha)
        legend = {tuple(pixel) for pixel in drawn[40:].flatten(0, 1).tolist()}
        assert legend & {*CITYSCAPES.colors} == {CITYSCAPES.colors[i] for i in (2, 5)}
        drawn = drawn[:40].int()
        assert (drawn[10, 31] - pole).abs().max() < 10
        assert (drawn[10, 32] - building).abs().max() < 10
        assert (drawn[10, 10] - (100 + alpha * (building - 100))).abs().max() <= 1


def test_colours_for_the_colour_blind_are_each_of_one_class_or_refused():
    for number in (19, 20, 21):
        names = tuple(map(str, range(number)))
        classes = Classes(names, tuple(range(number)), ((0, 0, 0),) * number)
        if number <= 20:
            assert len(set(figures.with_safe_colors(classes).colors)) == number
        else:
            with pytest.raises(ValueError, match="20, and the network has 21 classes"):
                figures.with_safe_colors(classes)


def note(model: UNet) -> str:
    texts = [text.get_text() for text in plot_unet(model, 41, 60).axes[0].texts]
    return " ".join(text for text in texts if text.startswith("Not drawn"))


def test_the_architecture_names_what_it_does_not_draw_and_leaves_the_network_alone():
    model = UNet(width=4, depth=2)
    assert note(model) == "" and model.training
    assert not any(module._forward_hooks for module in model.modules())
    model.contracting[0][2] = nn.LeakyReLU()
    model.expansive[0].tested_gate = nn.Sequential(nn.Conv2d(8, 1, 1), nn.Sigmoid())
    model.expansive[1].convs = type("Residual", (nn.Sequential,), {})(*model.expansive[1].convs)
    model.expansive[0].up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(16, 8, 1))
    gate = "expansive.0.tested_gate: Sequential"
    for name in ("contracting.0.2: LeakyReLU", gate, "1.convs: Residual"):
        assert name in note(model)
    assert "expansive.0.up: Sequential" in note(model) and "tested_gate.0" not in note(model)
