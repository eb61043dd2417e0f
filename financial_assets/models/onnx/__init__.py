"""The exported graph: traced, written as ONNX, proven equal to torch."""
