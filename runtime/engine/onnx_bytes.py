"""Writing one small ONNX graph without the onnx package, which no kiosk has.

An ONNX model is a Protocol Buffers message; the field numbers are those of ``onnx.proto``
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), the encoding that of
https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Sequence

_UINT8, _INT8, _INT32 = 2, 3, 6  # TensorProto.DataType
_EXTERNAL = 1  # TensorProto.DataLocation
_OPSET, _IR_VERSION = 21, 10


def integer_product(size: int, columns: int) -> bytes:
    """Write the graph ``products = (codes - zero) · items``, of 8-bit integers.

    Args:
        size: d.
        columns: n.

    Returns:
        A model with the inputs ``codes`` uint8 (r, d) and ``zero`` uint8 (), the output
        ``products`` int32 (r, n), and the initializer ``items`` int8 (d, n), whose values a
        session takes from ``SessionOptions.add_external_initializers``.
    """
    node = b"".join(_text(1, name) for name in ("codes", "items", "zero"))
    node += _text(2, "products") + _text(4, "MatMulInteger")
    items = _varint(1, size) + _varint(1, columns) + _varint(2, _INT8) + _text(8, "items")
    # whoever doesn't provide the values is told a location where there is nothing
    items += _field(13, _text(1, "location") + _text(2, "provided")) + _varint(14, _EXTERNAL)
    graph = _field(1, node) + _text(2, "scan") + _field(5, items)
    graph += _field(11, _value("codes", _UINT8, ("r", size)))
    graph += _field(11, _value("zero", _UINT8, ()))
    graph += _field(12, _value("products", _INT32, ("r", columns)))
    return _varint(1, _IR_VERSION) + _field(7, graph) + _field(8, _varint(2, _OPSET))


def _value(name: str, dtype: int, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto; an axis with a name instead of a length is free."""
    lengths = (_text(2, axis) if isinstance(axis, str) else _varint(1, axis) for axis in shape)
    axes = b"".join(_field(1, length) for length in lengths)
    return _text(1, name) + _field(2, _field(1, _varint(1, dtype) + _field(2, axes)))


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _field(number: int, value: bytes) -> bytes:
    return _encoded(number << 3 | 2) + _encoded(len(value)) + value


def _varint(number: int, value: int) -> bytes:
    return _encoded(number << 3) + _encoded(value)


def _encoded(value: int) -> bytes:
    """Seven bits to a byte, the least first, the top bit set on all but the last."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
