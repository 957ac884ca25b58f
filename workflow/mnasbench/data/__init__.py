"""Stage data: pictures, labels, manifest, calibration set, npz inputs."""
