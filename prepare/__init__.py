"""Data sets in Cityscapes' format: draw, convert, check; run as `python -m prepare.NAME`.

streets      draw Streets, a procedural data set
camvid       convert CamVid
own          convert images and masks of your own
cityscapes   check a data set before training
"""
