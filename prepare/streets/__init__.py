"""Streets, a procedural data set of driving scenes: `python -m prepare.streets` draws it."""

from prepare.streets.tree import draw_tree, ensure_streets, scene_paths

__all__ = ["draw_tree", "ensure_streets", "scene_paths"]
