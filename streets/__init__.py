"""Streets, a data set of drawn driving scenes: `python -m prepare.streets` draws it."""

from streets.tree import draw_tree, ensure_streets, scene_paths
