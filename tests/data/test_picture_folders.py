import os
from collections import Counter
from pathlib import Path

import pytest

from data.picture_folders import find, part_of
from tests.bad_input import refusal


def tree(root: Path, *places: str) -> Path:
    """Make folders of files that are pictures by their names: "train/cat 3" has three."""
    root.mkdir(parents=True, exist_ok=True)
    for place in places:
        name, _, count = place.rpartition(" ")
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(int(count)):
            (folder / f"{i}.png").touch()
    return root


def counts(root: Path, **settings) -> dict[str, dict[str, int]]:
    """The number of pictures by part and class."""
    found: dict[str, Counter] = {}
    for part, name, path in find(root, **settings).pictures:
        found.setdefault(part, Counter())[name] += 1
        assert path.is_file()
    return {part: dict(of_part) for part, of_part in found.items()}


def line(root: Path, **settings) -> str:
    said = refusal(find, root, **settings)
    assert said.startswith(str(root))
    return said.removeprefix(str(root))


TRAIN_AND_TEST = {"train": {"cat": 3, "dog": 4}, "test": {"cat": 1, "dog": 2}}


def both(train: str, test: str) -> list[str]:
    return [f"{train}/cat 3", f"{train}/dog 4", f"{test}/cat 1", f"{test}/dog 2"]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("Training", "Test"),
        ("TRAIN", "TEST"),
        ("catsTrain", "catsTest"),
        ("trainset", "testset"),
        ("train-images", "test-images"),
        ("train2017", "test2017"),
        ("01 training data", "02 testing data"),
        ("xyz_trainval", "xyz_test"),
        ("archive/data/my_train/images", "archive/data/my_test/pictures/all"),
        ("data/train.v2/train.v2", "data/test.v2"),
    ],
)
def test_parts_are_words_in_names_at_any_depth(tmp_path, train, test):
    assert counts(tree(tmp_path, *both(train, test))) == TRAIN_AND_TEST


@pytest.mark.parametrize("name", ["val", "valid", "VALIDATION", "dev", "xyz_dev_set", "valset", "validation-images"])
def test_names_of_the_part_to_validate_on(tmp_path, name):
    root = tree(tmp_path, *both("train", "test"), f"{name}/cat 5", f"{name}/dog 6")
    assert counts(root) == TRAIN_AND_TEST | {"validation": {"cat": 5, "dog": 6}}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("TrainData", "train"),
        ("my test", "test"),
        ("strain", None),
        ("contest", None),
        ("latest", None),
        ("invalid", None),
        ("deviation", None),
        ("train_test_split", None),
        ("train_val", "train"),
        ("testing-set", "test"),
        ("é_train", "train"),
    ],
)
def test_part_of(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    "names",
    [
        ("train", "car", "bus"),
        ("train", "bus"),
        ("freight_train", "passenger_train"),
        ("valid", "invalid"),
        ("test_tube", "beaker", "flask"),
        ("test", "exam"),
    ],
)
@pytest.mark.parametrize("around", ["", "archive/", "archive/archive/"])
def test_classes_may_be_called_as_parts_are(tmp_path, names, around):
    root = tree(tmp_path, *(f"{around}{name} 3" for name in names))
    assert counts(root) == {"": dict.fromkeys(sorted(names), 3)}


def test_classes_in_parts_may_be_called_as_parts_are(tmp_path):
    places = [f"{part}/{name} 2" for part in ("train", "test") for name in ("train", "valid", "test_tube", "car")]
    assert counts(tree(tmp_path, *places)) == dict.fromkeys(
        ("train", "test"), dict.fromkeys(("car", "test_tube", "train", "valid"), 2)
    )


@pytest.mark.parametrize(
    ("places", "said"),
    [
        # Published archives that hold more than train and test.
        (["seg_pred/seg_pred 9"], "seg_pred (9 images without classes)"),
        (["single_prediction 2"], "single_prediction (2 images without classes)"),
        (["test-multiple_fruits 7", "papers 0"], "test-multiple_fruits (7 images without classes)"),
        (["catsdogs/train/cat 3", "catsdogs/train/dog 3", "catsdogs/test/cat 1", "catsdogs/test/dog 1"], "repeats"),
        (["__MACOSX/train/cat 3", ".ipynb_checkpoints 4", "runs/image_classification/1/figures 3"], "__MACOSX"),
    ],
)
def test_what_lies_beside_the_parts_is_left_out_and_named(tmp_path, places, said):
    root = tree(tmp_path, *both("train", "test"), *places)
    found = find(root)
    assert counts(root) == TRAIN_AND_TEST
    assert said in found.understood[-1]
    assert found.understood[0] == ("parts by folder name: train (7 images) for training, test (3 images) for test")


@pytest.mark.parametrize("test", ["test1 9", "test/test 9", "test/unknown 9", "asl_test/asl_test 9"])
def test_a_test_part_without_classes_is_left_out(tmp_path, test):
    root = tree(tmp_path, "train/cat 3", "train/dog 4", test)
    assert counts(root) == {"train": {"cat": 3, "dog": 4}}
    name = test.rpartition(" ")[0].split("/")[0]
    assert find(root).understood[-1] == f"left out: {name} (9 images without classes)"
    assert "found images without classes" in line(root, to_test=True)


def test_an_archive_that_holds_itself_once_more(tmp_path):
    root = tree(tmp_path, "yes 3", "no 2", "tumours/yes 3", "tumours/no 2")
    assert counts(root) == {"": {"no": 2, "yes": 3}}
    assert "tumours (5 images), which repeats the folders beside it" in find(root).understood[-1]


def test_folders_around_are_passed_through_and_said(tmp_path):
    root = tree(tmp_path, "archive/data/cat 3", "archive/data/dog/more/deep 2", "archive/models 0")
    assert counts(root) == {"": {"cat": 3, "dog": 2}}
    assert find(root).understood == ["the classes are the folders in archive/data", "left out: the folders models"]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([f"{name}/{part} 2" for name in ("cat", "dog") for part in ("train", "test")], "expected train and test with"),
        ([f"{name}/my_train 2" for name in ("cat", "dog")], "expected train and test with"),
        ([f"{year}/{name} 2" for year in (2019, 2020) for name in ("cat", "dog")], "one level of class folders"),
        ([f"fold{i}/{name} 2" for i in range(5) for name in ("cat", "dog")], "fold0, fold1, fold2, …"),
        ([f"{name}/{kind} 2" for name in ("learn", "exam") for kind in ("a", "b", "c")], "a, b, c repeated"),
        ([f"train/{name}/{part} 2" for name in ("cat", "dog") for part in ("a", "b")], "/train: found the folders"),
        (["train/cat 2", "train/dog 2", "test/cat 2", "test/eel 2"], "/test: found the class 'eel', which isn't in"),
        (["train/cat 2", "train/dog 2", "test/cat 2", "test/Dog 2"], "the class 'Dog', which is 'dog' in train"),
        (["train/cat 2", "train/dog 2", "val/cat 2"], "/val: found no images of class 'dog', which is in train"),
        (["train/cat 2", "train/dog 2", "test/0 2"], "/test: found the class '0', which isn't in train"),
        (["train 5", "test 5"], "/train: found no folder in it"),
        (["train 5", "test/cat 2", "test/dog 2"], "/train: found no folder in it"),
        (["train/cat 2", "train/dog 2", "extra/cat 2", "extra/dog 2"], "/extra: found a folder beside train"),
        (["train/cat 2", "train/dog 2", "new 2"], "/new: found a folder beside train"),
        (["train/a 1", "train/b 1", "my_train/a 1", "my_train/b 1"], "found a second folder beside my_train"),
        (["test/a 1", "test/b 1", "val/a 1", "val/b 1"], "found the folders test, val, expected a folder train"),
        (["cat 2", "dog 0"], "/dog: found no image in it"),
        (["train/cat 2", "train/dog 0"], "/dog: found no image in it"),
        ([". 9", "cat 2", "dog 2"], "found 9 images outside the class folders"),
        ([". 9"], "found no folder in it"),
        (["a/" * 40 + " 1"], "more than 32 nested folders"),
        ([], "found no folder in it"),
    ],
)
def test_what_can_not_be_told_is_refused(tmp_path, places, said):
    assert said in line(tree(tmp_path, *places))


@pytest.mark.parametrize(
    "places", [["x/images 3", "y/images 3"], ["fruit/red 1", "fruit/green 1", "car/red 1", "car/blue 1", "bus/big 1"]]
)
def test_folders_below_classes_that_may_be_called_alike(tmp_path, places):
    assert set(counts(tree(tmp_path, *places))[""]) == {place.split("/")[0] for place in places}


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([". 9"], {"": 9}),
        (["cat 9"], {"": 9}),
        (["faces/faces 9"], {"": 9}),
        (["cat/more 4", "cat 5", ". 2"], {"": 11}),
        (["train 5", "test 3"], {"train": 5, "test": 3}),
        (["faces_train/faces_train 5", "faces_val/all 3"], {"train": 5, "validation": 3}),
        (["train/cat 5", "test/cat 3"], {"train": 5, "test": 3}),
    ],
)
def test_pictures_without_classes(tmp_path, places, expected):
    root = tree(tmp_path, *places)
    assert counts(root, without_classes=True) == {part: {"all": count} for part, count in expected.items()}


def test_classes_stay_where_none_are_needed(tmp_path):
    assert counts(tree(tmp_path, "dog 1", "cat 1"), without_classes=True) == {"": {"cat": 1, "dog": 1}}


def test_links(tmp_path):
    root = tree(tmp_path / "set", "cat 3")
    (root / "dog").symlink_to(tree(tmp_path / "elsewhere", "dog 2") / "dog")
    assert counts(root) == {"": {"cat": 3, "dog": 2}}
    (root / "cat" / "again").symlink_to(root)
    (root / "cat" / "self").symlink_to("self")
    os.mkfifo(root / "cat" / "pipe.png")
    assert counts(root) == {"": {"cat": 3, "dog": 2}}
    assert "links to folders already read: again" in find(root).understood[-1]
    (root / "cat" / "lost.png").symlink_to("nowhere")  # is a picture that can't be read
    assert [path.name for _, _, path in find(root).pictures][:4] == ["0.png", "1.png", "2.png", "lost.png"]


def test_names_in_any_bytes_and_forms(tmp_path):
    root = tree(tmp_path, "train/cafe\u0301 2", "train/line\nend 1", "test/caf\u00e9 1", "test/line\nend 1")
    for part in ("train", "test"):
        (root / part / "\udcff\udcfe").mkdir()  # two bytes that aren't UTF-8
        (root / part / "\udcff\udcfe" / "a.JPG").touch()
    names = {"caf\u00e9", r"line\nend", r"\udcff\udcfe"}
    assert {part: set(found) for part, found in counts(root).items()} == {"train": names, "test": names}
