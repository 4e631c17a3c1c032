"""The best items of a whole catalogue, exactly, through onnxruntime."""
