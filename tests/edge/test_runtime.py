import sys

import numpy as np
import pytest
from conftest import LEVELS, gray_image, with_int8_weights, write_image

from semdefect.edge import EdgeClassifier
from semdefect.edge.image import to_tensor
from semdefect.errors import UserError

BATCH = np.concatenate([to_tensor(gray_image(level)) for level in (*LEVELS[:7], 251)])


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request):
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return request.param


def test_images_alone_and_in_batches_take_turns(model, runtime):
    classifier = EdgeClassifier(model, runtime=runtime)
    whole = classifier.logits(BATCH)
    assert whole.shape == (8, 8) and whole.argmax(axis=1).tolist() == list(range(8))
    for first, last in ((0, 1), (2, 5), (1, 2), (3, 3), (7, 8), (0, 8), (4, 5)):
        assert np.allclose(classifier.logits(BATCH[first:last]), whole[first:last], atol=1e-3)


def test_an_answer_stays_when_the_next_comes(model, runtime):
    classifier = EdgeClassifier(model, runtime=runtime)
    first = classifier.logits(BATCH[:1])
    kept = first.copy()
    classifier.logits(BATCH[5:6])
    assert np.array_equal(first, kept)


def test_an_image_need_not_lie_in_one_piece(model, runtime):
    classifier = EdgeClassifier(model, runtime=runtime)
    apart = np.asfortranarray(BATCH[3:4, :, ::-1])
    assert np.allclose(classifier.logits(apart), classifier.logits(np.ascontiguousarray(apart)), atol=1e-3)
    assert np.allclose(classifier.logits(BATCH[::3]), classifier.logits(BATCH)[::3], atol=1e-3)


def test_openvino_answers_as_onnx_runtime(model, tmp_path):
    pytest.importorskip("openvino")
    for path in (model, with_int8_weights(model, tmp_path / "int8.onnx")[0]):
        wanted = EdgeClassifier(path).answers(BATCH)
        for threads in (1, 2):
            found = EdgeClassifier(path, threads, runtime="openvino").answers(BATCH)
            # Products reach 800: in bf16, which OpenVINO takes by itself where it can, they would be off by 1 and more.
            assert np.allclose(found.logits, wanted.logits, atol=0.01)
            assert np.array_equal(found.unknown, wanted.unknown)


def test_openvino_that_is_not_installed(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="pip install openvino"):
        EdgeClassifier(model, runtime="openvino")


def test_unknown_runtime(model):
    with pytest.raises(UserError, match="runtime: must be onnxruntime or openvino, not tflite"):
        EdgeClassifier(model, runtime="tflite")


def test_command_line(command, model, tmp_path):
    image = write_image(tmp_path / "a.png", LEVELS[7])
    done = command("classify", image, "--model", model, "--runtime", "onnxruntime")
    assert (done.returncode, done.stdout.split()[1]) == (0, "via")
    assert command("classify", image, "--model", model, "--runtime", "tflite").returncode == 2


def test_command_line_with_openvino(command, model, tmp_path):
    pytest.importorskip("openvino")
    write_image(tmp_path / "labelled" / "via" / "a.png", LEVELS[7])
    done = command("score", "labelled", "--model", model, "--runtime", "openvino")
    assert done.returncode == 0 and "accuracy" in done.stdout
