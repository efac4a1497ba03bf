"""Label photographs with the help of one's own network; `label.ipynb` drives it."""
