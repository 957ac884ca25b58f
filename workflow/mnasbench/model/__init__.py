"""Stage model: architectures, weights, export to ONNX."""
