"""Where it runs: processes, devices and precision, checkpoints and files."""
