"""Stage data: images, labels, manifest, calibration set, npz inputs."""
