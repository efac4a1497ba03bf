"""What is proposed, in which order, and which labels are suspected."""

import time
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image

from inference import load_model
from labeling import proposals, rounds, suspects, widget
from labeling.opening import open_data_set, open_session
from labeling.oracle import accept, as_runs, fills, fills_needed, label, true_labels
from labeling.proposals import choose_order, look, propose, segments
from tests.processes import python
from utils import CITYSCAPES, Classes


@pytest.fixture
def scene() -> tuple[torch.Tensor, np.ndarray]:
    """A photograph of four areas, and the number of the area of each pixel."""
    areas = np.zeros((60, 80), dtype=np.uint8)
    areas[30:], areas[:20, 50:], areas[40:50, 10:30] = 1, 2, 3
    colors = np.array([[90, 140, 210], [80, 80, 80], [30, 120, 40], [160, 20, 30]], dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 4, (60, 80, 3), dtype=np.uint8)
    return torch.from_numpy(colors[areas] + noise).permute(2, 0, 1), areas


class Painter(torch.nn.Module):
    """Takes the place of a network: sky above, below road, and unsure on the right of that."""

    depth, downscale, training, is_folded, classes = 0, 1, False, True, CITYSCAPES

    def __init__(self):
        super().__init__()
        self.settings = {"num_classes": 19}
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images, full_image):
        n, _, h, w = images.shape
        logits = torch.zeros(n, 19, h, w)
        logits[:, 10, : h // 2], logits[:, 0, h // 2 :, : w // 2] = 9, 9
        logits[:, 0, h // 2 :, w // 2 :] = 1
        return logits


@pytest.mark.parametrize(("known", "expected"), [([], ["road", "sky"]), ([10], ["sky"])])
def test_a_network_knows_what_was_in_its_validation(known, expected):
    network = Painter()
    network.known = known
    mine = Classes(("road", "tram", "sky"), (1, 2, 3), ((0, 0, 0),) * 3)
    assert proposals.known_classes(network, mine) == expected


def test_a_proposal_is_that_of_whole_segments_in_the_ids_of_the_users_classes(scene):
    image, areas = scene
    mine = Classes(("Road", "car"), (5, 9), ((1, 2, 3), (4, 5, 6)))  # and no sky
    found = segments(image)
    assert set(np.unique(found)) == set(range(found.max() + 1))
    assert all(len(np.unique(areas[found == i])) == 1 for i in range(found.max() + 1))
    proposal = propose(Painter(), image, found, mine, 255)
    assert set(proposal.ids[:30].ravel().tolist()) == {255}
    assert set(proposal.ids[50:].ravel().tolist()) == {5}
    assert all(len(np.unique(proposal.sure[found == i])) == 1 for i in range(found.max() + 1))
    assert proposal.sure[59, 0] < 99  # the segment reaches into the half that is unsure
    assert 0.2 < proposals.uncertainty(proposal) < 0.6
    assert len(np.unique(proposals.regions(proposal))) == 2


def test_what_is_open_stays_open_and_what_is_labelled_stays_as_it_is(scene):
    image, _ = scene
    proposal = propose(Painter(), image, segments(image), CITYSCAPES, 0)
    mask = np.zeros((120, 160), dtype=np.uint8)
    mask[0, 0] = 11
    taken = accept(proposal, mask, 0)
    assert (taken[0, 0], taken[0, 1], taken[119, 159]) == (11, 23, 0)
    assert (proposals.enlarge(proposal.ids, (120, 160))[1::2, 1::2] == proposal.ids).all()


def test_the_order_prefers_the_unsure_and_shows_no_corner_twice_before_others():
    corners = np.random.default_rng(0).integers(0, 255, (4, 3, 8, 8), dtype=np.uint8)
    images = [
        torch.from_numpy(corner).repeat_interleave(8, 1).repeat_interleave(8, 2) + i
        for corner in corners
        for i in range(5)
    ]  # five nearly equal photographs of each of four corners
    looks = np.stack([look(image) for image in images])
    unsure = np.repeat([0.9, 0.5, 0.4, 0.3], 5)
    order = choose_order(unsure, looks, looks[:0])
    assert sorted(order) == list(range(20))
    assert [i // 5 for i in order[:4]] == [0, 1, 2, 3]
    assert choose_order(unsure, looks, looks[:1])[0] // 5 == 1  # the first corner is labelled


def test_runs_and_fills_of_the_oracle_make_the_truth(scene):
    image, areas = scene
    found, ids = [segments(image)], (0, 1, 2, 3)
    mask = np.full(areas.shape, 255, dtype=np.uint8)
    assert fills_needed(found, areas, mask, ids) == 6 < found[0].max() + 1  # 95 % need fewer
    gains = [int(where.sum()) for where, _ in fills(found, areas, mask, ids)]
    assert gains == sorted(gains, reverse=True)
    assert (mask == areas).all()
    runs = as_runs(areas, areas > 0)
    again = np.zeros(areas.size)
    for start, length, value in runs:
        again[start : start + length] = value
    assert (again.reshape(areas.shape) == areas).all()


def test_after_corrections_the_training_is_on_the_whole_data_set(tree, tmp_path):
    names = [path.name for path in sorted(tree.glob("leftImg8bit/train/*/*.png"))]
    corrected = [f"train/{name.split('_')[0]}/{name[:-16]}" for name in names[:2]]
    with closing(open_data_set(tree, corrected)) as session:
        settings, _ = rounds.next_round(session, "recipes/own.yaml", tmp_path / "runs")
        assert settings.epochs == 60  # 12 images would take 200


def test_a_round_needs_two_labelled_photographs_and_ranks_those_that_are_not(streets, tmp_path):
    with closing(open_session(streets / "leftImg8bit" / "train", tmp_path / "set")) as session:
        recipe, runs = "recipes/own.yaml", tmp_path / "runs"
        with pytest.raises(ValueError, match="0 labelled photographs to train on and 0 to"):
            rounds.next_round(session, recipe, runs)
        for name in session.order[:4]:
            truth = true_labels(session.photos[name].image)
            assert label(session, name, truth, None, 30) > 0.4
        for number in "12":  # each has a directory of its own
            settings, run = rounds.next_round(session, recipe, runs, epochs=2)
            assert (run.name, settings.downscale, settings.epochs) == (number, 1, 2)
            run.mkdir(parents=True)
        order = proposals.rank(session, Painter())
        assert len(order) == 8 and session.order[:8] == [name for name, _ in order]
        for name in session.order:
            session.stroke(name, [[0, 9, session.classes.ids[0]]])
        before = [*session.order]
        assert proposals.rank(session, Painter()) == [] and session.order == before


def test_a_suspect_region_is_where_a_sure_network_contradicts_the_labels():
    labels = torch.zeros(40, 60, dtype=torch.uint8)
    labels[:, 30:] = 1
    right = torch.nn.functional.one_hot(labels.long(), 3).permute(2, 0, 1) * 0.8 + 0.1
    limits = suspects.thresholds([(0, labels, right)], 3)
    assert limits.tolist() == pytest.approx([0.9, 0.9, 1.0])
    wrong = labels.clone()
    wrong[5:15, 10:25], wrong[30:, :] = 1, 255  # an error, and what is not labelled
    (region,) = suspects.suspect_regions(wrong, right, limits)
    assert region[:3] == ((10, 5, 25, 15), 1, 0)
    assert region[3] == pytest.approx(0.8**2 * 150**0.5)
    assert not list(suspects.suspect_regions(labels, right, limits))


def test_a_confusion_that_many_images_have_is_less_suspect_than_one_of_a_single_image():
    common = [suspects.Suspect(name, (0, 0, 9, 9), "road", "sidewalk", 3.0) for name in "abcd"]
    rare = suspects.Suspect("b", (5, 5, 9, 9), "car", "sky", 1.0)
    first, *others = suspects.rank([*common, rare, common[0]])
    assert first == rare
    assert [each.score for each in others] == [0.75] * 5


@pytest.mark.slow
def test_the_command_finds_an_error_and_the_notebook_opens_it(tree, tmp_path):
    (path,) = (tree / "gtFine" / "train").rglob("lindenau_000001*_gtFine_labelIds.png")
    labels = np.array(Image.open(path))
    Image.fromarray(np.where(labels == 7, 23, labels)).save(path)  # the road is sky
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{width: 8, depth: 2, downscale: 1, lr: 0.01, batch_size: 2, epochs: 12, data_root: other}"
    )
    command = ["-m", "labeling.suspects", tree, "--recipe", recipe, "--runs", tmp_path / "runs"]
    python(*command, "--parts", 2)
    assert "--parts 2 or more" in python(*command, "--parts", 1, status=1).stderr
    boxes = suspects.read_suspects(tree / "suspects.json", 10)
    name = "train/lindenau/lindenau_000001_000019"
    box = next(box for *box, text in boxes[name] if text == "sky: road?")
    with closing(open_data_set(tree, list(boxes))) as session:
        assert (session.mask(name)[box[1] : box[3], box[0] : box[2]] == 23).any()
    for kind in ("leftImg8bit", "gtFine"):
        (tree / kind / "train").rename(tree / kind / "elsewhere")
    assert "no train split" in python(*command[:3], status=1).stderr


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "bound"), [(480, 360, 2), (4000, 3000, 8)])
def test_a_proposal_takes_few_seconds_of_two_cores(streets, tmp_path, width, height, bound):
    (tmp_path / "photographs").mkdir()
    scene = Image.open(next(streets.glob("leftImg8bit/train/*/*.png")))
    scene.resize((width, height)).save(tmp_path / "photographs" / "a.jpg", quality=92)
    with closing(open_session(tmp_path / "photographs", tmp_path / "set")) as session:
        model, spent = load_model("checkpoints/streets-512.pt"), {}

        def timed(what: str, function, *args):
            start, clock = time.process_time(), time.perf_counter()
            result = function(*args)
            spent[what] = time.process_time() - start
            by_the_clock = f"{time.perf_counter() - clock:.3f} s by the clock"
            print(f"{width}x{height} {what}: {spent[what]:.3f} s of processor time, {by_the_clock}")
            return result

        image, _ = timed("open", session.go, "a.jpg")
        timed("file for the browser", widget.shown_file, session.photos["a.jpg"].image, image)
        runs = [[width * y + 100, 50, session.classes.ids[0]] for y in range(100, 150)]
        timed("stroke", session.stroke, "a.jpg", runs)
        view = proposals.view_of(image)
        found = timed("segments", segments, view)
        propose(model, view, found, session.classes, session.void)  # which folds the network, once
        timed("proposal", propose, model, view, found, session.classes, session.void)
        assert spent["segments"] + spent["proposal"] < bound
        assert spent["open"] + spent["file for the browser"] < 4  # two seconds of two cores
