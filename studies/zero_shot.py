"""What a network makes of photographs when it was trained on drawn scenes alone.

    python -m studies.zero_shot checkpoints/streets-512.pt data/camvid

Evaluates all labelled frames of CamVid's train and val at full resolution, over the classes that
occur in them, and adds a line to studies/records/zero-shot.jsonl.
"""

import json

from engine import evaluate_split
from inference import load_model
from runtime.console import command_line, errors_shown
from studies.common import add


def zero_shot(checkpoint: str, data_root: str) -> dict:
    """Accuracy, mIoU and IoU of each class that occurs, 0..1, over train and val together."""
    model = load_model(checkpoint)
    train, val = (evaluate_split(model, data_root, split)[0] for split in ("train", "val"))
    val.matrix = val.matrix + train.matrix
    there = (val.matrix.sum(1) > 0).tolist()
    named = zip(model.classes.names, val.iou.tolist(), there, strict=True)
    iou = {name: round(value, 4) for name, value, occurs in named if occurs}
    mean = sum(iou.values()) / len(iou)
    return {"accuracy": round(val.pixel_accuracy, 4), "mIoU": round(mean, 4), "iou": iou}


@errors_shown()
def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("data_root")
    args = parser.parse_args()
    run = {"checkpoint": args.checkpoint, **zero_shot(args.checkpoint, args.data_root)}
    print(json.dumps(run, indent=1))
    add("zero-shot", "zero_shot", run)


if __name__ == "__main__":
    main()
