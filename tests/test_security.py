"""Archives from elsewhere write only into their data set. For code in files see test_bad_input."""

import os
import stat
import zipfile
from contextlib import suppress

from dataset import Cityscapes


def test_archives_are_unpacked_only_inside_their_data_set(streets, tmp_path):
    root = tmp_path / "around" / "root"
    root.mkdir(parents=True)
    for name in ("leftImg8bit", "gtFine"):
        with zipfile.ZipFile(root / f"{name}_trainvaltest.zip", "w") as archive:
            for path in sorted((streets / name / "val").rglob("*.png")):
                archive.write(path, path.relative_to(streets))
    with zipfile.ZipFile(root / "gtFine_trainvaltest.zip", "a") as archive:
        for name in ("../beside", "gtFine/../../beside", "..\\backwards", root.parent / "absolute"):
            archive.writestr(str(name), "evil")
        link = zipfile.ZipInfo("gtFine/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(root.parent))
        archive.writestr("gtFine/link/through", "evil")
    with suppress(OSError, ValueError):  # the link may be refused
        Cityscapes(root, "val")
    assert (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()  # it did unpack
    assert os.listdir(root.parent) == ["root"]
