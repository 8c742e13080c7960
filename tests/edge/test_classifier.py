import numpy as np
import pytest
from conftest import LEVELS, gray_image, guard, metadata, with_int8_weights, write_image, write_model
from PIL import Image

from semdefect import CLASSES
from semdefect.edge import EdgeClassifier, Failure
from semdefect.edge.image import BLANK, is_blank, open_gray, to_tensor
from semdefect.edge.metadata import METADATA_KEY
from semdefect.edge.runtime import Answers
from semdefect.errors import UserError


def test_classify(model, tmp_path):
    classifier = EdgeClassifier(model)
    for name, level in zip(CLASSES, LEVELS, strict=True):
        path = write_image(tmp_path / f"{name}.png", level)
        prediction = classifier.classify(path)
        assert prediction.label == name
        assert list(prediction.probabilities) == list(CLASSES)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.confidence == max(prediction.probabilities.values()) > 0.9
        assert prediction.decision == "accept"
        assert classifier.classify(str(path)) == prediction
        assert classifier.classify(Image.open(path)) == prediction


def test_between_two_classes_a_person_decides(model):
    prediction = EdgeClassifier(model).classify(Image.new("L", (9, 9), 32))
    assert prediction.confidence == pytest.approx(0.5, abs=0.01) and prediction.decision == "review"


def test_a_person_learns_between_which_two_classes(model):
    prediction = EdgeClassifier(model).classify(gray_image(35))
    assert (prediction.reason, prediction.label, prediction.alternative) == ("ambiguous", CLASSES[1], CLASSES[0])
    assert EdgeClassifier(model).classify(gray_image(LEVELS[2])).reason is None


def test_an_image_unlike_all_of_training_is_unknown_however_sure_the_model_is(tmp_path):
    image = gray_image(251)
    model = write_model(tmp_path / "m.onnx")
    prediction = EdgeClassifier(model).classify(image)
    assert (prediction.decision, prediction.reason, prediction.unknown) == ("review", "unknown", 1)
    assert prediction.confidence > 0.9
    properties = {METADATA_KEY: metadata(guard=guard(unknown=1.0)).to_json()}
    assert EdgeClassifier(write_model(tmp_path / "m.onnx", properties)).classify(image).decision == "accept"


def test_guard_accepts_at_the_threshold_and_not_below(tmp_path):
    image = gray_image(36)
    confidence = EdgeClassifier(write_model(tmp_path / "a.onnx")).classify(image).confidence
    for threshold, decision in (
        (confidence, "accept"),
        (np.nextafter(confidence, 2), "review"),
        (1.01, "review"),
    ):
        properties = {METADATA_KEY: metadata(guard=guard(float(threshold))).to_json()}
        model = write_model(tmp_path / "b.onnx", properties)
        assert EdgeClassifier(model).classify(image).decision == decision


@pytest.mark.parametrize("image", [Image.new("L", (64, 48), LEVELS[0]), Image.new("L", (1, 1), LEVELS[3])])
def test_a_blank_image_goes_to_review_however_sure_the_model_is(model, image):
    prediction = EdgeClassifier(model).classify(image)
    assert prediction.confidence > 0.9 and (prediction.decision, prediction.reason) == ("review", "blank")


def test_logits_and_probabilities(model, tmp_path):
    classifier = EdgeClassifier(model, threads=2)
    batch = np.concatenate([to_tensor(Image.new("L", (9, 9), level)) for level in LEVELS])
    logits = classifier.logits(batch)
    assert logits.shape == (8, 8) and logits.dtype == np.float32
    assert logits.argmax(axis=1).tolist() == list(range(8))
    assert np.allclose(classifier.logits(batch[3:4]), logits[3:4], atol=1e-4)
    assert classifier.logits(batch[:0]).shape == (0, 8)
    warm = EdgeClassifier(write_model(tmp_path / "w.onnx", {METADATA_KEY: metadata(temperature=2.5).to_json()}))
    powers = np.exp(logits.astype(float) / 2.5)
    assert np.allclose(warm.probabilities(logits), powers / powers.sum(axis=1, keepdims=True))
    assert np.isfinite(warm.probabilities(np.array([[1e30, -1e30] * 4]))).all()


@pytest.mark.parametrize("shape", [(224, 224), (1, 3, 224, 224), (1, 1, 128, 128)])
def test_logits_refuse_other_shapes(model, shape):
    classifier = EdgeClassifier(model)
    with pytest.raises(ValueError, match="expected float32"):
        classifier.logits(np.zeros(shape, dtype=np.float32))
    with pytest.raises(ValueError, match="expected float32"):
        classifier.logits(np.zeros((1, 1, 224, 224), dtype=np.float64))


def test_class_names_come_from_the_model(tmp_path):
    names = tuple("hgfedcba")
    model = write_model(tmp_path / "m.onnx", {METADATA_KEY: metadata(classes=names).to_json()})
    assert EdgeClassifier(model).classify(Image.new("L", (9, 9), LEVELS[0])).label == "h"


def test_many_go_on_after_a_bad_one(model, tmp_path):
    paths = [write_image(tmp_path / f"{k}.png", LEVELS[k]) for k in range(3)]
    paths[1].write_bytes(b"")
    first, second, third = EdgeClassifier(model).classify_many(paths)
    assert (first.label, third.label) == (CLASSES[0], CLASSES[2])
    assert isinstance(second, Failure) and second.error.startswith(f"{paths[1]}: is empty")
    with pytest.raises(UserError, match="is empty"):
        EdgeClassifier(model).classify(paths[1])


def test_many_turn_an_image_upright_once(model, tmp_path):
    """A file whose EXIF data says that it lies on its side gets one answer, whichever way it comes in."""
    exif = Image.Exif()
    exif[0x0112] = 6
    gray_image(100).save(tmp_path / "a.jpg", exif=exif)
    classifier = EdgeClassifier(model)
    seen = []
    answers = Answers(np.zeros((1, 8), dtype=np.float32), np.zeros(1, dtype=np.float32))
    classifier.answers = lambda tensor: seen.append(tensor) or answers
    classifier.classify(tmp_path / "a.jpg")
    list(classifier.classify_many([tmp_path / "a.jpg"]))
    assert np.array_equal(*seen)


def refusal(path, **options):
    with pytest.raises(UserError) as caught:
        EdgeClassifier(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message


def test_not_our_model(tmp_path, capfd):
    path = tmp_path / "m.onnx"
    assert "no such model" in refusal(path)
    assert "is a folder" in refusal(tmp_path)
    path.touch()
    assert "is empty" in refusal(path)
    path.write_bytes(b"this is no protobuf")
    assert "is no ONNX file, or is damaged" in refusal(path)
    assert "without our metadata" in refusal(write_model(path, {}))
    assert "is not JSON" in refusal(write_model(path, {METADATA_KEY: "{"}))
    assert "format must be 2" in refusal(write_model(path, {METADATA_KEY: '{"format": 1}'}))
    for wrong in (
        {"size": 128},
        {"channels": 3},
        {"classes": 5},
        {"batch": 1},
        {"batch": 4},
        {"names": ("image", "logits", "unknown")},
        {"names": ("input", "scores", "unknown")},
        {"names": ("input", "logits", "strange")},
    ):
        assert "export_onnx" in refusal(write_model(path, **wrong))
    assert capfd.readouterr().err == ""


def test_a_truncated_model(model, tmp_path):
    path = tmp_path / "m.onnx"
    content = model.read_bytes()
    for length in range(1, len(content), 97):
        path.write_bytes(content[:length])
        refusal(path)


def test_a_model_too_large_is_not_read(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)  # sparse: takes no room on the disk
    assert "larger than 64 MiB" in refusal(path)


def test_a_model_that_answers_nonsense(tmp_path):
    path = write_model(tmp_path / "m.onnx", sharpness=float("nan"))
    with pytest.raises(UserError, match=r"m.onnx: does not answer with finite logits and score"):
        EdgeClassifier(path).classify(Image.new("L", (9, 9)))


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_threads(model, threads):
    with pytest.raises(UserError, match="threads: must be"):
        EdgeClassifier(model, threads=threads)


def test_weights_in_int8_run_as_in_fp32(tmp_path):
    """Quantize-dequantize pairs on weights load and answer like the plain network."""
    plain = write_model(tmp_path / "a.onnx", sharpness=100.0)
    stored, scale = with_int8_weights(plain, tmp_path / "b.onnx")
    batch = to_tensor(open_gray(write_image(tmp_path / "a.png", 100)))
    both = [EdgeClassifier(path).logits(batch) for path in (plain, stored)]
    assert np.allclose(*both, atol=2 * scale)


def test_what_is_blank_is_decided_by_all_rows():
    draw = np.random.default_rng(0)
    for spread in np.geomspace(1e-3, 1, 60):
        tensor = np.clip(draw.normal(0.5, spread, (1, 1, 224, 224)), 0, 1).astype(np.float32)
        assert is_blank(tensor) == (tensor.std() < BLANK)
    lines = np.zeros((1, 1, 224, 224), dtype=np.float32)
    lines[..., 4::8, :] = 1  # between the rows that are looked at first
    assert not is_blank(lines)
