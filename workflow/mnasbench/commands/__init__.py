"""The commands ort-vamc and ort-vamp, and what all commands share."""
