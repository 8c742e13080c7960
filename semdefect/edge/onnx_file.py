"""What an ONNX file declares, checked before ONNX Runtime sees it: an exported network is arithmetic, and nothing else.

An ONNX file is a protobuf message and may ask for more than arithmetic: loops without end, tensors that are declared
larger than the file, weights read from another file, libraries of custom operators. The device has no onnx package, and
needs none: a message is a list of numbered fields, and the few that matter here are found without copying any.
Numbers and names are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3 (IR version 10).
"""

import math
from collections.abc import Iterator

from semdefect.errors import UserError

#: Operators of the standard domain that a network may use: arithmetic on tensors. Not among them are control flow
#: (If, Loop, Scan), random numbers, text, and what runs code of other files.
OPERATORS = frozenset(
    b"Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv "
    b"DequantizeLinear Div Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool "
    b"Greater GreaterOrEqual HardSigmoid HardSwish Identity LayerNormalization LeakyRelu Less LessOrEqual Log MatMul "
    b"Max MaxPool Mean Min Mish Mul Neg Not Or Pad Pow QuantizeLinear ReduceMax ReduceMean ReduceMin ReduceSum Relu "
    b"Reshape Resize Round Shape Sigmoid Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze "
    b"Where".split()
)

#: Files with more fields are refused: reading them takes time, here and in ONNX Runtime. The largest file that the
#: pipeline exports has 12 000.
MAX_FIELDS = 100_000

#: A tensor of more dimensions is none that a network needs; the largest here have 4.
MAX_DIMS = 16

#: A tensor may hold so many times as many numbers as its record has bytes: four-bit types pack two into one.
_PACKED = 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: One field of a message: its number, its value where that is a whole number, and where its content begins and ends.
_Field = tuple[int, int, int, int]


class _Message:
    """The bytes of a file, of which some more fields may be read."""

    def __init__(self, content: bytes) -> None:
        self.content, self._left = content, MAX_FIELDS

    def fields(self, position: int, end: int) -> Iterator[_Field]:
        """The fields of the protobuf message ``content[position:end]``; a number has its begin and end at 0.

        Raises:
            ValueError: it is none.
            IndexError: it is cut off.
            UserError: the file has more than `MAX_FIELDS`.
        """
        content = self.content
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise UserError(f"has more than {MAX_FIELDS} fields, which no exported network needs")
            tag, position = content[position], position + 1
            if tag > 127:
                tag, position = _varint(content, position - 1)
            kind = tag & 7
            if kind == _BYTES:
                length, position = content[position], position + 1
                if length > 127:
                    length, position = _varint(content, position - 1)
            elif kind == _VARINT:
                value, position = _varint(content, position)
                yield tag >> 3, value, 0, 0
                continue
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise ValueError(f"wire type {kind}")
            begin, position = position, position + length
            if position > end:
                raise ValueError("cut off")
            yield tag >> 3, 0, begin, position


def check_onnx(content: bytes) -> None:
    """Refuse an ONNX file that is more than arithmetic on tensors which it holds itself.

    Raises:
        UserError: it is no ONNX file, holds functions, subgraphs or training steps, uses an operator that is not one of
            `OPERATORS`, refers to another file, declares a tensor larger than the file or of more than `MAX_DIMS`
            dimensions, or has more than `MAX_FIELDS` fields. The reason, to stand after the name of the file.
    """
    message = _Message(content)
    try:
        for number, _, begin, end in message.fields(0, len(content)):
            if number == 7:  # graph
                _check_graph(message, begin, end)
            elif number in (20, 25):  # training_info, functions
                raise UserError("holds functions or training steps")
    except (IndexError, ValueError):
        raise UserError("is no ONNX file, or is damaged") from None


def _check_graph(message: _Message, begin: int, end: int) -> None:
    for number, _, inner, stop in message.fields(begin, end):
        if number == 1:  # node
            _check_node(message, inner, stop)
        elif number == 5:  # initializer
            _check_tensor(message, inner, stop)
        elif number == 15:  # sparse_initializer
            raise UserError("holds a sparse tensor")


def _check_node(message: _Message, begin: int, end: int) -> None:
    operator = domain = b""
    for number, _, inner, stop in message.fields(begin, end):
        if number == 4:  # op_type
            operator = message.content[inner:stop]
        elif number == 5:  # attribute
            _check_attribute(message, inner, stop)
        elif number == 7:  # domain
            domain = message.content[inner:stop]
    if operator not in OPERATORS or domain not in (b"", b"ai.onnx"):
        name = (domain + b"." + operator if domain else operator)[:60].decode("ascii", "backslashreplace")
        raise UserError(f"uses the operator {name!r}, which is none of those that an exported network needs")


def _check_attribute(message: _Message, begin: int, end: int) -> None:
    for number, _, inner, stop in message.fields(begin, end):
        if number in (5, 10):  # t, tensors
            _check_tensor(message, inner, stop)
        elif number in (6, 11, 22, 23):  # g, graphs, sparse_tensor, sparse_tensors
            raise UserError("holds a graph within its graph, or a sparse tensor")


def _check_tensor(message: _Message, begin: int, end: int) -> None:
    dims: list[int] = []
    for number, value, inner, stop in message.fields(begin, end):
        if number == 1:  # dims, one by one or packed
            for size in _varints(message.content, inner, stop) if inner else (value,):
                if len(dims) == MAX_DIMS:
                    raise UserError(f"declares a tensor of more than {MAX_DIMS} dimensions")
                dims.append(size)
        elif number == 13 or (number == 14 and value):  # external_data, data_location
            raise UserError("refers to another file for its weights")
        elif number == 6:  # string_data
            raise UserError("holds a tensor of text")
    if math.prod(dims) > _PACKED * (end - begin):
        raise UserError(f"declares a tensor that does not fit into its {end - begin} bytes")


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """The number at ``position``, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("number too long")


def _varints(content: bytes, position: int, end: int) -> Iterator[int]:
    """The numbers that are packed into ``content[position:end]``."""
    while position < end:
        value, position = _varint(content, position)
        yield value
