"""Engines beside PyTorch, each of an optional package, all of them an `Upscaler` of a module.

    torch       PyTorch, on every device
    openvino    OpenVINO, on processors; `openvino:GPU` and `openvino:NPU` for Intel's others
    onnx        ONNX Runtime, on processors and CUDA; `onnx:directml`, `onnx:coreml`
    tensorrt    TensorRT, on NVIDIA GPUs; built engines are kept on disk
    triton      own kernels in CUDA graphs, for compact networks and RRDB in fp16
    compile     `torch.compile`, for one shape at a time

What comes after a colon is the engine's own name of the device that it computes on; the tensors
stay where PyTorch has them. `registry` opens one by its name.
"""
