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


@errors_shown()
def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("data_root")
    args = parser.parse_args()
    model = load_model(args.checkpoint)
    confusion, _ = evaluate_split(model, args.data_root, "trainval")
    occurs = (confusion.matrix.sum(1) > 0).tolist()
    named = zip(model.classes.names, confusion.iou.tolist(), occurs, strict=True)
    iou = {name: round(value, 4) for name, value, there in named if there}
    run = {"checkpoint": args.checkpoint, "accuracy": round(confusion.pixel_accuracy, 4)}
    run |= {"mIoU": round(sum(iou.values()) / len(iou), 4), "iou": iou}
    print(json.dumps(run, indent=1))
    add("zero-shot", "zero_shot", run)


if __name__ == "__main__":
    main()
