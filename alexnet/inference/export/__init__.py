"""Write a trained model in formats that other programs run.

`formats` does it for any of them. `options` is what an export is asked for, `exported` what it
reports, `check` compares an exported model with the native network on images, before it gets its
name, and `model_card` describes it. Each format is one function in a module of its own:
`onnx_file`, `torch_export`, `openvino_ir`, `state_dict`, `caffemodel`, `page`.
"""
