"""Commands: ort-vamc and ort-vamp, and the arguments, exit codes, progress and colours that all commands share."""
