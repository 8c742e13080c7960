"""What an ONNX file declares, checked before ONNX Runtime sees it: an exported network is arithmetic, and nothing else.

An ONNX file is a protobuf message and may ask for more than arithmetic: loops without end, tensors that are declared
larger than the file, weights read from another file, libraries of custom operators. The device has no onnx package, and
needs none: a message is a list of numbered fields, and the few that matter here are found without copying any.
Numbers and names are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3 (IR version 10).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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

#: Nor may operators make one of more, as far as is told here: each that takes a shape may add as much as that has.
MAX_RANK = 4096

#: Numbers that ONNX Runtime may have to compute from constants alone. It does so while it loads a file, outside of the
#: memory that `semdefect.edge.session` gives it. The largest file that the pipeline exports has 3 million.
MAX_FOLDED = 2**25

# What may be computed from constants alone: results of the shape of the first input, of the shape to which all inputs
# are stretched, and of at most as many numbers as the first input has. Others make much of little, or, as sums over an
# empty axis do, something of nothing.
_SAME = frozenset(b"Abs Cast Ceil DequantizeLinear Exp Floor Identity Log Neg Not QuantizeLinear Round Sqrt".split())
_STRETCHED = frozenset(b"Add And Div Equal Greater Less Max Min Mul Or Pow Sub Where".split())
_FEWER = frozenset(b"Flatten Reshape Slice Split Squeeze Transpose Unsqueeze".split())

#: A tensor may hold so many times as many numbers as its record has bytes: four-bit types pack two into one.
_PACKED = 2

#: The type of an attribute that is a tensor.
_TENSOR = 4

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: One field of a message: its number, or less that where it is a whole number; that number; and where a content begins
#: and ends.
_Field = tuple[int, int, int, int]


class _Constant(NamedTuple):
    """A tensor that does not depend on the input: at most how many numbers it has, and its dimensions where known."""

    numbers: int
    dims: tuple[int, ...] | None = None


class _Node(NamedTuple):
    """An operator, the names of what it takes and gives, its bytes in the file, and the tensor in it, if any."""

    operator: bytes
    inputs: list[bytes]
    outputs: list[bytes]
    size: int
    tensor: _Constant | None


class _Message:
    """The bytes of a file, of which some more fields may be read."""

    def __init__(self, content: bytes) -> None:
        self.content, self._left = content, MAX_FIELDS

    def fields(self, position: int, end: int) -> Iterator[_Field]:
        """The fields of the protobuf message ``content[position:end]``, without those of fixed length: none matters.

        As for every reader, a field is known by its number and by how it is written: no text is written as a number.

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
            if not 8 <= tag < 2**32:  # others read 32 bits of it, which may be those of another field
                raise ValueError("tag")
            kind = tag & 7
            if kind == _BYTES:
                length, position = content[position], position + 1
                if length > 127:
                    length, position = _varint(content, position - 1)
            elif kind == _VARINT:
                value, position = _varint(content, position)
                yield -(tag >> 3), value, 0, 0
                continue
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise ValueError(f"wire type {kind}")
            begin, position = position, position + length
            if position > end:
                raise ValueError("cut off")
            if kind == _BYTES:
                yield tag >> 3, 0, begin, position


def check_onnx(content: bytes) -> None:
    """Refuse an ONNX file that is more than arithmetic on tensors which it holds itself.

    Raises:
        UserError: it is no ONNX file, holds functions, subgraphs or training steps, uses an operator that is not one of
            `OPERATORS`, refers to another file, declares a tensor larger than the file or of more than `MAX_DIMS`
            dimensions, has more than `MAX_FIELDS` fields, or makes large tensors of constants alone. The reason, to
            stand after the name of the file.
    """
    message, graphs = _Message(content), 0
    try:
        for number, _, begin, end in message.fields(0, len(content)):
            if number == 7:  # graph
                graphs += 1
                if graphs > 1:  # protobuf would make one of both
                    raise ValueError("two graphs")
                _check_graph(message, begin, end)
            elif number in (20, 25):  # training_info, functions
                raise UserError("holds functions or training steps")
    except (IndexError, ValueError):
        raise UserError("is no ONNX file, or is damaged") from None


def _check_graph(message: _Message, begin: int, end: int) -> None:
    nodes, constants = [], dict[bytes, _Constant]()
    for number, _, inner, stop in message.fields(begin, end):
        if number == 1:  # node
            nodes.append(_checked_node(message, inner, stop))
        elif number == 5:  # initializer
            name, tensor = _checked_tensor(message, inner, stop)
            constants[name] = tensor
        elif number == 15:  # sparse_initializer
            raise UserError("holds a sparse tensor")
    _check_folded(nodes, constants)


def _check_folded(nodes: Sequence[_Node], constants: dict[bytes, _Constant]) -> None:
    """Refuse nodes by which ONNX Runtime would compute more than `MAX_FOLDED` numbers from ``constants`` alone."""
    later, left, rank = {name for node in nodes for name in node.outputs}, MAX_FOLDED, MAX_DIMS
    for node in nodes:
        if not later.isdisjoint(node.inputs):
            raise UserError("has operators that do not follow one another")
        later.difference_update(node.outputs)
        rank = _rank_behind(node, rank, constants)
        # A shape is constant where the tensor's is fixed, which is not told here.
        if node.operator != b"Shape" and not all(name in constants for name in node.inputs):
            continue
        folded = _folded(node, [constants[name] for name in node.inputs if name in constants], rank)
        left -= folded.numbers * len(node.outputs)
        if left < 0:
            raise UserError(f"computes more than {MAX_FOLDED} numbers from constants alone")
        constants.update(dict.fromkeys(node.outputs, folded))


def _rank_behind(node: _Node, rank: int, constants: dict[bytes, _Constant]) -> int:
    """How many dimensions a tensor may have at most once ``node`` has run, where none had more than ``rank`` before."""
    if node.operator in (b"Reshape", b"Expand", b"Tile", b"ConstantOfShape"):
        rank = max(rank, *(constants[name].numbers for name in node.inputs[-1:] if name in constants), 0)
    elif node.operator == b"Unsqueeze":  # by an input or, in older files, by an attribute
        rank += max(node.size, *(constants[name].numbers for name in node.inputs[1:] if name in constants), 0)
    if rank > MAX_RANK:
        raise UserError(f"makes a tensor of more than {MAX_RANK} dimensions")
    return rank


def _folded(node: _Node, given: Sequence[_Constant], rank: int) -> _Constant:
    """What each output of ``node`` is at most, where all that it is ``given`` is constant."""
    if node.operator == b"Shape":
        return _Constant(rank)
    if node.operator == b"Constant":
        return node.tensor or _Constant(_PACKED * node.size)
    if given and node.operator in _SAME:
        return given[0]
    if given and node.operator in _STRETCHED:
        return _stretched(given)
    if given and node.operator in _FEWER:
        return _Constant(given[0].numbers)
    if given and node.operator == b"Concat":
        return _Constant(sum(one.numbers for one in given))
    if given and node.operator == b"Gather":
        return _Constant(math.prod(one.numbers for one in given))
    name = node.operator.decode("ascii")
    raise UserError(f"computes {name} from constants alone, which no exported network needs")


def _stretched(given: Sequence[_Constant]) -> _Constant:
    """The shape to which all of ``given`` are stretched: dimensions are aligned at the last, and 1 takes any size."""
    known = [one.dims for one in given if one.dims is not None]
    if len(known) < len(given):
        return _Constant(math.prod(one.numbers for one in given))
    longest = max(len(dims) for dims in known)
    padded = [(1,) * (longest - len(dims)) + dims for dims in known]
    dims = tuple(max(sizes) for sizes in zip(*padded, strict=True))
    return _Constant(math.prod(dims), dims)


def _checked_node(message: _Message, begin: int, end: int) -> _Node:
    operator = domain = b""
    inputs, outputs, attributes = list[bytes](), list[bytes](), list[_Constant | None]()
    for number, _, inner, stop in message.fields(begin, end):
        if number == 1 and stop > inner:  # input; one without a name is left out
            inputs.append(message.content[inner:stop])
        elif number == 2 and stop > inner:  # output
            outputs.append(message.content[inner:stop])
        elif number == 4:  # op_type
            operator = message.content[inner:stop]
        elif number == 5:  # attribute
            attributes.append(_checked_attribute(message, inner, stop))
        elif number == 7:  # domain
            domain = message.content[inner:stop]
    if operator not in OPERATORS or domain not in (b"", b"ai.onnx"):
        name = (domain + b"." + operator if domain else operator)[:60].decode("ascii", "backslashreplace")
        raise UserError(f"uses the operator {name!r}, which is none of those that an exported network needs")
    if operator == b"Constant" and len(attributes) != 1:
        raise UserError("holds a constant that has not one value")
    return _Node(operator, inputs, outputs, end - begin, attributes[0] if operator == b"Constant" else None)


def _checked_attribute(message: _Message, begin: int, end: int) -> _Constant | None:
    """The tensor that an attribute is; None where it is something else."""
    tensor, kind = None, 0
    for number, value, inner, stop in message.fields(begin, end):
        if number in (5, 10):  # t, tensors
            if tensor:  # protobuf would make one of two
                raise ValueError("two tensors")
            _, tensor = _checked_tensor(message, inner, stop)
        elif number in (6, 11, 22, 23):  # g, graphs, sparse_tensor, sparse_tensors
            raise UserError("holds a graph within its graph, or a sparse tensor")
        elif number == -20:  # type: which of its values counts
            kind = value
    return tensor if kind == _TENSOR else None


def _checked_tensor(message: _Message, begin: int, end: int) -> tuple[bytes, _Constant]:
    """The name and the size of a tensor."""
    name, dims = b"", list[int]()
    for number, value, inner, stop in message.fields(begin, end):
        if abs(number) == 1:  # dims, packed or one by one
            for size in _varints(message.content, inner, stop) if number > 0 else (value,):
                if len(dims) == MAX_DIMS:
                    raise UserError(f"declares a tensor of more than {MAX_DIMS} dimensions")
                dims.append(size)
        elif number == 8:  # name
            name = message.content[inner:stop]
        elif number == 13 or (number == -14 and value):  # external_data, data_location
            raise UserError("refers to another file for its weights")
        elif number == 6:  # string_data
            raise UserError("holds a tensor of text")
    count = math.prod(dims)
    if count > _PACKED * (end - begin):
        raise UserError(f"declares a tensor that does not fit into its {end - begin} bytes")
    return name, _Constant(count, tuple(dims))


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
