"""Data sets in Cityscapes' format: draw, convert, download, check; run as `python -m prepare.NAME`.

streets      draw Streets, a procedural data set
camvid       convert CamVid
own          convert images and masks of your own
login        log in to cityscapes-dataset.com, to download with wget
cityscapes   check a data set before training
"""
