"""An ONNX file that is more than arithmetic on its own tensors is refused before ONNX Runtime sees it."""

import math
import time

import numpy as np
import onnx
import pytest
from conftest import ROOT, write_model
from onnx import TensorProto, helper, numpy_helper

from benchmarks.fuzz_files import FOLDING, tiny_model
from semdefect.edge import EdgeClassifier
from semdefect.edge.onnx_file import check_onnx
from semdefect.edge.session import MAX_TENSOR_BYTES
from semdefect.errors import UserError


@pytest.fixture
def network(model) -> onnx.ModelProto:
    return onnx.load(model)


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds ``content``."""
    length, rest = b"", len(content)
    while rest > 127:
        length, rest = length + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + content


def refusal(network: onnx.ModelProto) -> str:
    with pytest.raises(UserError) as caught:
        check_onnx(network.SerializeToString())
    return str(caught.value)


def test_networks_pass(network) -> None:
    check_onnx(network.SerializeToString())
    check_onnx(tiny_model())


@pytest.mark.parametrize("path", sorted((ROOT / "models/edge").glob("*.onnx")), ids=lambda path: path.stem)
def test_exported_files_pass(path) -> None:
    check_onnx(path.read_bytes())


@pytest.mark.parametrize("operator", ["Loop", "If", "Scan", "RandomNormal", "StringNormalizer", "Custom", ""])
def test_an_operator_that_is_no_arithmetic_is_refused(network, operator) -> None:
    network.graph.node[0].op_type = operator
    assert f"uses the operator '{operator}'" in refusal(network)


def test_an_operator_of_another_library_is_refused(network) -> None:
    network.graph.node[0].domain = "evil"
    assert "'evil.ReduceMean'" in refusal(network)


def test_weights_in_another_file_are_refused(network, tmp_path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    tensor = network.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, str(tmp_path / "secret"))
    tensor.ClearField("raw_data")
    assert "refers to another file" in refusal(network)
    tensor.ClearField("data_location")  # the other of the two fields is enough
    assert "refers to another file" in refusal(network)


@pytest.mark.parametrize("dims", [[2**40], [2**20, 2**20, 2**20], [-1], [2**62, 2**62]])
def test_a_tensor_that_is_declared_larger_than_its_bytes_is_refused(network, dims) -> None:
    network.graph.initializer[0].dims[:] = dims
    assert "does not fit into its" in refusal(network)


def test_the_same_in_an_attribute(network) -> None:
    constant = numpy_helper.from_array(np.zeros(4, np.float32), "value")
    constant.dims[:] = [2**40]
    network.graph.node.append(helper.make_node("Constant", [], ["unused"], value=constant))
    assert "does not fit into its" in refusal(network)


def test_packed_dims_are_read_too(network) -> None:
    """A file may write the sizes of a tensor one by one or in one field, and every reader takes both."""
    tensor = helper.make_tensor("packed", TensorProto.INT8, [1], b"\0", raw=True)
    content = tensor.SerializeToString().removeprefix(b"\x08\x01")  # dims: 1
    huge = b"\x0a\x06" + b"\xff\xff\xff\xff\xff\x0f"  # the same field with a length
    assert TensorProto.FromString(huge + content).dims == [2**39 - 1]
    with pytest.raises(UserError, match="does not fit"):
        check_onnx(field(7, field(5, huge + content)))


def test_many_dimensions_take_no_time() -> None:
    """Their product, a number of a million digits, took 17 s of half a megabyte."""
    begin = time.process_time()
    with pytest.raises(UserError, match="a tensor of more than 16 dimensions"):
        check_onnx(field(7, field(5, field(1, (b"\xff" * 8 + b"\x7f") * 60_000))))
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("dims", [[], [0], [0, 4], [1] * 16])
def test_no_dimensions_and_empty_ones_are_fine(network, dims) -> None:
    network.graph.initializer.append(helper.make_tensor("t", TensorProto.FLOAT, dims, bytes(4 * math.prod(dims)), True))
    check_onnx(network.SerializeToString())


@pytest.mark.parametrize("wrap", [lambda fields: fields, lambda fields: field(7, field(1, fields))])
def test_fields_without_number_are_refused(wrap) -> None:
    """Each takes two bytes, and a microsecond to skip: some minutes for a file of the largest size."""
    begin = time.process_time()
    with pytest.raises(UserError, match="has more than 100000 fields"):
        check_onnx(wrap(b"\x18\x00" * 2**21))
    assert time.process_time() - begin < 1


def test_subgraphs_functions_and_sparse_tensors_are_refused(network) -> None:
    for change, fault in (
        (lambda n: n.graph.node[0].attribute.append(helper.make_attribute("body", n.graph)), "graph within its graph"),
        (lambda n: n.functions.add(name="f"), "functions"),
        (lambda n: n.training_info.add(), "training steps"),
        (lambda n: n.graph.sparse_initializer.add(), "sparse"),
    ):
        copy = onnx.ModelProto.FromString(network.SerializeToString())
        change(copy)
        assert fault in refusal(copy)


@pytest.mark.parametrize("name", FOLDING)
def test_much_of_constants_is_refused(name) -> None:
    """ONNX Runtime computes it as it loads a file, outside of its bounded memory: 10 GB for a kilobyte of Expand."""
    content = FOLDING[name]()
    onnx.checker.check_model(onnx.load_from_string(content))
    with pytest.raises(UserError, match="from constants alone"):
        check_onnx(content)


def test_some_of_constants_is_computed(network) -> None:
    """As weights that are stored in INT8 are, and the sizes of tensors."""
    weights = {"w": np.ones((64, 32), np.int8), "scale": np.ones((64, 1), np.float32), "at": np.array([0])}
    network.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    node = helper.make_node
    network.graph.node.extend(
        [
            node("Cast", ["w"], ["floats"], to=TensorProto.FLOAT),
            node("Mul", ["floats", "scale"], ["scaled"]),
            node("Shape", ["scaled"], ["shape"]),
            node("Gather", ["shape", "at"], ["rows"]),
            node("Concat", ["rows", "at"], ["sizes"], axis=0),
            node("Constant", [], ["three"], value_ints=[1, 2, 3]),
            node("Add", ["three", "at"], ["more"]),
        ]
    )
    check_onnx(network.SerializeToString())


def test_constants_are_not_hidden(network) -> None:
    """Behind an order of nodes, a second graph, or a second tensor of an attribute, which protobuf puts together."""
    network.graph.node.insert(0, helper.make_node("Add", ["logits", "logits"], ["early"]))
    assert "do not follow one another" in refusal(network)
    content = tiny_model()
    graph = onnx.load_from_string(content).graph.SerializeToString()
    with pytest.raises(UserError, match="is damaged"):
        check_onnx(content + field(7, graph))
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "value").SerializeToString()
    with pytest.raises(UserError, match="is damaged"):
        check_onnx(field(7, field(1, field(4, b"Constant") + field(5, field(5, tensor) * 2))))


def varint(number: int) -> bytes:
    """``number`` as protobuf writes it."""
    rest = b""
    while number > 127:
        rest, number = rest + bytes([number & 127 | 128]), number >> 7
    return rest + bytes([number])


def with_graph(more: bytes) -> bytes:
    """`tiny_model` with ``more`` fields at the end of its graph."""
    model = onnx.load_from_string(tiny_model())
    graph = model.graph.SerializeToString() + more
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


def test_a_tag_that_others_read_otherwise_is_refused() -> None:
    """ONNX Runtime reads 32 bits of a tag, by which this one is a second graph."""
    graph = onnx.load_from_string(tiny_model()).graph.SerializeToString()
    tag = varint((7 << 3 | 2) + 2**32)
    with pytest.raises(UserError, match="is damaged"):
        check_onnx(tiny_model() + tag + field(7, graph)[1:])


def test_a_field_that_is_written_as_another_kind_does_not_count() -> None:
    node = helper.make_node("Gelu", ["logits"], ["extra"], domain="com.microsoft").SerializeToString()
    as_number, as_four_bytes = varint(7 << 3) + b"\0", varint(4 << 3 | 5) + b"Relu"
    with pytest.raises(UserError, match=r"com\.microsoft\.Gelu"):
        check_onnx(with_graph(field(1, node + as_number)))
    drawn = helper.make_node("RandomNormal", [], ["extra"], shape=[2, 2]).SerializeToString()
    with pytest.raises(UserError, match="RandomNormal"):
        check_onnx(with_graph(field(1, drawn + as_four_bytes)))


@pytest.mark.parametrize("more", [varint(8 << 3 | 5) + b"abcd", varint(1 << 3 | 5) + b"\1\1\1\1"], ids=["name", "dims"])
def test_constants_are_counted_by_what_others_read(more) -> None:
    row, column = (numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in SIDES.items())
    product = helper.make_node("Mul", ["row", "column"], ["much"]).SerializeToString()
    tensors = [tensor.SerializeToString() + more for tensor in (row, column)]
    with pytest.raises(UserError, match="from constants alone"):
        check_onnx(with_graph(field(1, product) + b"".join(field(5, tensor) for tensor in tensors)))


SIDES = {"row": (1, 20_000), "column": (20_000, 1)}


def test_a_constant_of_two_values_is_refused_or_counted_by_the_larger() -> None:
    row, column = (numpy_helper.from_array(np.zeros(shape, np.float32), "value") for shape in SIDES.values())
    product = helper.make_node("Mul", ["constant", "column"], ["much"])
    initializer = field(5, numpy_helper.from_array(np.zeros(SIDES["column"], np.float32), "column").SerializeToString())
    twice = helper.make_node("Constant", [], ["constant"], value=row)
    twice.attribute.append(helper.make_attribute("value", column))
    with pytest.raises(UserError, match="not one value"):
        check_onnx(
            with_graph(field(1, twice.SerializeToString()) + field(1, product.SerializeToString()) + initializer)
        )
    mixed = helper.make_node("Constant", [], ["constant"], value_floats=[0.0] * 20_000)
    mixed.attribute[0].t.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), "t"))
    with pytest.raises(UserError, match="from constants alone"):
        check_onnx(
            with_graph(field(1, mixed.SerializeToString()) + field(1, product.SerializeToString()) + initializer)
        )


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMax", "ReduceMean"])
def test_nothing_does_not_become_much(network, operator) -> None:
    """The sum over an empty axis has as many numbers as the other axes say."""
    network.graph.initializer.append(helper.make_tensor("empty", TensorProto.FLOAT, [0, 2**30], []))
    network.graph.node.append(helper.make_node(operator, ["empty"], ["much"], axes=[0]))
    assert f"computes {operator} from constants alone" in refusal(network)


def test_a_shape_has_as_many_numbers_as_dimensions_were_made(network) -> None:
    """Of 8000 dimensions, the product of all pairs of their sizes is large."""
    network.graph.initializer.append(numpy_helper.from_array(np.ones(8000, np.int64), "ones"))
    network.graph.node.append(helper.make_node("Reshape", ["input", "ones"], ["deep"]))
    assert "makes a tensor of more than 4096 dimensions" in refusal(network)
    del network.graph.node[-1]
    network.graph.node.extend(
        helper.make_node("Unsqueeze", [f"d{number}" if number else "input", "ones"], [f"d{number + 1}"])
        for number in (0, 1)
    )
    network.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.arange(3000), "ones"))
    assert "makes a tensor of more than 4096 dimensions" in refusal(network)


def test_outputs_that_are_left_out_are_no_names(network) -> None:
    network.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 32, 32]), "sides"))
    network.graph.node.insert(0, helper.make_node("MaxPool", ["input"], ["pooled", ""], kernel_shape=[2, 2]))
    network.graph.node.insert(0, helper.make_node("Resize", ["input", "", "", "sides"], ["small"]))
    check_onnx(network.SerializeToString())


def test_a_damaged_file_raises_nothing_else(network) -> None:
    content, draw = network.SerializeToString(), np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(content)
        for place in draw.integers(0, len(damaged), draw.integers(1, 5)):
            damaged[place] = draw.integers(256)
        try:
            check_onnx(bytes(damaged[: draw.integers(1, len(damaged) + 1)]))
        except UserError as error:
            assert "\n" not in str(error)


def test_a_network_may_not_take_all_the_memory(tmp_path) -> None:
    """What a network computes is not declared anywhere; it is stopped when it asks for more than it may have."""
    network = onnx.load(write_model(tmp_path / "m.onnx"))
    factor = (MAX_TENSOR_BYTES / 4) ** 0.5 / 224 + 1
    network.graph.initializer.append(numpy_helper.from_array(np.float32([1, 1, factor, factor]), "factors"))
    network.graph.node[0].input[0] = "large"
    network.graph.node.insert(0, helper.make_node("Resize", ["input", "", "factors"], ["large"]))
    onnx.save(network, tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"m\.onnx: fails when it runs"):
        EdgeClassifier(tmp_path / "m.onnx").answers(np.zeros((1, 1, 224, 224), np.float32))


@pytest.mark.parametrize(
    ("text", "other"), [(b"logits", b"\xffogits"), (b"\x09semdefect", b"\x09\xffemdefect"), (b"MatMul", b"MatMu\xff")]
)
def test_names_that_are_no_text_are_refused_in_one_sentence(model, tmp_path, capfd, text, other) -> None:
    """ONNX Runtime hands out names as they are, and told on standard output that it would try them again."""
    path = tmp_path / "m.onnx"
    path.write_bytes(model.read_bytes().replace(text, other))
    with pytest.raises(UserError, match=r"m\.onnx: .*export_onnx"):
        EdgeClassifier(path)
    assert capfd.readouterr() == ("", "")
