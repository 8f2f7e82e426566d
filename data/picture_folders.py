"""Find the pictures in the user's folder, with their parts and classes.

Parts are recognised by words in folder names, such as `seg_train`, `training_set`, `Test`, `xyz-val` or `valid`, at any
depth above the pictures; folders that hold just one other folder are skipped. Sentences describe the interpretation.
"""

import dataclasses
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.dataset import BadInput, counted, escaped, listed
from data.picture_files import EXPECTED, SUFFIXES

PARTS = ("train", "validation", "test")
ALL = "all"  # the one class of pictures without classes
DEEPEST = 32  # folders within folders

_PART_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}
_PART_WORD = re.compile(
    rf"({'|'.join(sorted(_PART_WORDS, key=len, reverse=True))})"
    r"(set|sets|data|dataset|image|images|imgs|img|pictures|files|folder|dir|split|part)?"
)
_NO_DATA = {"__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
_NO_CLASS = {"unknown", "unlabeled", "unlabelled", "images", "imgs", "pictures", "data", "all", "files"}
_FOLDER_OF_EACH = "expected a folder of images for each class"


@dataclasses.dataclass
class Found:
    """Part ("train", "validation", "test", or "" for none), class and path of each picture; and sentences on them."""

    pictures: list[tuple[str, str, Path]]
    understood: list[str]


@dataclasses.dataclass
class _Folder:
    path: Path
    folders: list["_Folder"] = dataclasses.field(default_factory=list)
    pictures: list[Path] = dataclasses.field(default_factory=list)
    count: int = 0  # pictures in it and below it

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def filled(self) -> list["_Folder"]:
        """The folders in it that hold pictures."""
        return [inside for inside in self.folders if inside.count]

    def below(self) -> list[Path]:
        """Every picture in it and below it, sorted."""
        return sorted([*self.pictures, *(path for inside in self.folders for path in inside.below())])


@dataclasses.dataclass
class _LeftOut:
    """Files and folders that are not used."""

    hidden: int = 0
    folders: list[str] = dataclasses.field(default_factory=list)
    endings: Counter[str] = dataclasses.field(default_factory=Counter)
    links: list[str] = dataclasses.field(default_factory=list)
    loose: int = 0
    others: list[str] = dataclasses.field(default_factory=list)

    @property
    def kinds(self) -> str:
        return listed(f"{count:,} of {ending}" for ending, count in sorted(self.endings.items()))

    def sentences(self) -> list[str]:
        parts = [
            *self.others,
            *([f"{counted(self.loose, 'image')} outside the class folders"] if self.loose else []),
            *([f"the folders {listed(dict.fromkeys(self.folders))}"] if self.folders else []),
            *([f"links to folders already read: {listed(self.links)}"] if self.links else []),
            *([counted(self.hidden, "hidden file")] if self.hidden else []),
        ]
        if self.endings:
            parts.append(f"files that aren't images, by their names: {self.kinds}")
        return [f"left out: {'; '.join(parts)}"] if parts else []


def find(folder: Path, *, without_classes: bool = False, to_test: bool = False) -> Found:
    """Find the pictures of a folder.

    Args:
        folder: holds a folder of pictures for each class, or parts with such folders.
        without_classes: accept pictures that aren't in at least two class folders; their class is "all".
        to_test: only the test part is needed.

    Raises:
        BadInput: There is no such folder or no picture in it; a class has no picture; the classes are ambiguous; the
            parts have different classes, or one is missing, unless `to_test`.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: found {'a file' if folder.exists() else 'no such folder'}, {_FOLDER_OF_EACH}")
    left_out = _LeftOut()
    root = _scan(folder, left_out, set(), 0)
    if not root.count and not root.folders:
        raise BadInput(f"{folder}: found no folder in it, {_FOLDER_OF_EACH}{_only(left_out)}")
    if not root.count:
        raise BadInput(f"{folder}: found no image in it, {EXPECTED}{_only(left_out)}")
    parts = _parts(root, left_out, to_test)
    classes = {part: _classes(inside) for part, inside in parts.items()}
    if without_classes and max(map(len, classes.values())) < 2:
        understood = _understood_parts(folder, parts, {part: inside.count for part, inside in parts.items()})
        listed_pictures = [(part, ALL, path) for part, inside in parts.items() for path in inside.below()]
        return Found(listed_pictures, [*understood, *left_out.sentences()])

    main = "train" if "train" in parts else next(iter(parts))
    if not classes[main]:
        raise BadInput(f"{parts[main].path}: found no folder in it, {_FOLDER_OF_EACH}{_only(left_out)}")
    known = {class_name(inside.path) for inside in classes[main]}
    for part in [part for part in parts if part != main]:
        # Kaggle's test pictures have no classes; they are in one folder, or in one within another.
        names = {class_name(inside.path) for inside in classes[part]} - known
        if len(classes[part]) == len(names) < 2 and all(map(_says_nothing, names)):
            if to_test and part == "test":
                raise BadInput(f"{parts[part].path}: found images without classes, {_FOLDER_OF_EACH}")
            place = _below(folder, parts[part].path)
            left_out.others.append(f"{place} ({counted(parts[part].count, 'image')} without classes)")
            del parts[part], classes[part]
    for part, of_part in classes.items():
        _check_level(parts[part], of_part)
        names = {class_name(inside.path) for inside in of_part}
        if not to_test and names != known:
            _refuse_difference(parts[main], parts[part], known, names)
    found = Found([], [])
    counts = {}
    for part, of_part in classes.items():
        before = len(found.pictures)
        for inside in of_part:
            found.pictures += [(part, class_name(inside.path), path) for path in inside.below()]
        counts[part] = len(found.pictures) - before
        loose = sum(len(level.pictures) for level in _levels(parts[part], of_part[0]))
        if loose > counts[part]:
            expected = "expected all of them in class folders"
            raise BadInput(f"{parts[part].path}: found {counted(loose, 'image')} outside the class folders, {expected}")
        left_out.loose += loose
    found.understood += _understood_parts(folder, parts, counts)
    if not parts.keys() - {""} and (level := of_part[0].path.parent) != folder:
        found.understood.append(f"the classes are the folders in {_below(folder, level)}")
    found.understood += left_out.sentences()
    return found


def class_name(path: Path) -> str:
    """The name of a folder's class: in NFC, with control characters escaped."""
    return escaped(unicodedata.normalize("NFC", path.name))


def part_of(name: str) -> str | None:
    """The part that the words of a folder's name indicate; None if none or several."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word.lower() for word in re.findall(r"[^\W\d_]+", spaced)]
    parts = {_PART_WORDS[match[1]] for word in words if (match := _PART_WORD.fullmatch(word))}
    return "train" if parts == {"train", "validation"} else parts.pop() if len(parts) == 1 else None


def _says_nothing(name: str) -> bool:
    return part_of(name) is not None or name.lower() in _NO_CLASS


def _scan(folder: Path, left_out: _LeftOut, seen: set[tuple[int, int]], depth: int) -> _Folder:
    if depth > DEEPEST:
        raise BadInput(f"{folder}: found more than {DEEPEST} nested folders, expected fewer")
    scanned = _Folder(folder)
    try:
        about = folder.stat()
        seen.add((about.st_dev, about.st_ino))
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            path = folder / entry.name
            if _is_folder(entry):
                about = path.stat()
                if entry.name[0] == "." or entry.name.lower() in _NO_DATA:
                    left_out.folders.append(entry.name)
                elif (about.st_dev, about.st_ino) in seen:
                    left_out.links.append(entry.name)
                else:
                    inside = _scan(path, left_out, seen, depth + 1)
                    if not depth and entry.name == "runs" and not inside.pictures:  # where these programs write
                        left_out.folders.append(entry.name)
                    else:
                        scanned.folders.append(inside)
            elif entry.name[0] == ".":
                left_out.hidden += 1
            elif path.suffix.lower() in SUFFIXES and (entry.is_file() or entry.is_symlink()):
                scanned.pictures.append(path)  # a broken link is a bad picture
            else:
                left_out.endings[path.suffix.lower() or "no ending"] += 1
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise BadInput(f"{folder}: found a folder that can't be read ({reason}), {_FOLDER_OF_EACH}") from None
    scanned.count = len(scanned.pictures) + sum(inside.count for inside in scanned.folders)
    return scanned


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _parts(folder: _Folder, left_out: _LeftOut, to_test: bool) -> dict[str, _Folder]:
    """The folders of the parts, at the first level that has any; else {"": the folder of all}."""
    while True:
        inside = _without_copies(folder, left_out)
        if inside and not folder.pictures and (parts := _parts_here(folder, inside, left_out, to_test)):
            return parts
        if folder.pictures or len(inside) != 1 or inside[0].pictures:
            return {"": folder}
        _leave_empty(folder, left_out)
        folder = inside[0]


def _parts_here(
    folder: _Folder, inside: Sequence[_Folder], left_out: _LeftOut, to_test: bool
) -> dict[str, _Folder] | None:
    by_part = {part: [one for one in inside if part_of(one.name) == part] for part in PARTS}
    named = {part: found for part, found in by_part.items() if found}
    others = [one for one in inside if part_of(one.name) is None]
    with_classes = {part: [one for one in found if _classes(one)] for part, found in named.items()}
    if not named:
        return None
    if not any(with_classes.values()):
        # A class may be called train or valid. Folders are parts only if all have names of parts, and of several.
        if others or len(named) == 1:
            return None
    elif "train" not in named:
        if others:
            return None
        if not to_test:
            found = ", ".join(one.name for one in inside)
            raise BadInput(f"{folder.path}: found the folders {found}, expected a folder train as well")
    elif not with_classes["train"]:
        if others:
            return None
    elif others:
        several = sum(map(bool, with_classes.values())) > 1
        for one in others:
            if _classes(one) or not several:
                name = with_classes["train"][0].name
                expected = f"expected class folders only in {name}, or no folders inside class folders"
                raise BadInput(f"{one.path}: found a folder beside {name}, {expected}")
            left_out.others.append(f"{one.name} ({counted(one.count, 'image')} without classes)")
    parts = {}
    for part, found in named.items():
        chosen = with_classes[part] or found
        if len(chosen) > 1:
            first, second = chosen[:2]
            raise BadInput(f"{second.path}: found a second folder beside {first.name}, expected one {part} folder")
        left_out.others += [
            f"{one.name} ({counted(one.count, 'image')} without classes)" for one in found if one not in chosen
        ]
        parts[part] = chosen[0]
    _leave_empty(folder, left_out)
    return parts


def _without_copies(folder: _Folder, left_out: _LeftOut) -> list[_Folder]:
    """List the folders that hold pictures, without one that repeats the folders beside it.

    Published archives often contain a copy of themselves.
    """
    inside = folder.filled
    all_names = {one.name for one in inside}
    copies = []
    for one in inside:
        level = one
        while not level.pictures and len(level.filled) == 1:
            level = level.filled[0]
        names = {other.name for other in level.filled} if not level.pictures else set()
        if len(names) > 1 and one.name not in names and names <= all_names:
            copies.append(one)
    if len(copies) != 1:
        return inside
    left_out.others.append(
        f"{copies[0].name} ({counted(copies[0].count, 'image')}), which repeats the folders beside it"
    )
    folder.folders.remove(copies[0])
    folder.count -= copies[0].count
    return folder.filled


def _leave_empty(folder: _Folder, left_out: _LeftOut) -> None:
    left_out.folders += [inside.name for inside in folder.folders if not inside.count]


def _classes(folder: _Folder) -> list[_Folder]:
    """List the class folders in a folder, below folders that hold just one folder; empty if there are none."""
    levels = _levels(folder)
    inside = levels[-1].filled
    if len(inside) == 1 and inside[0].name.lower() == levels[-1].name.lower():
        return []
    return inside


def _levels(folder: _Folder, within: _Folder | None = None) -> list[_Folder]:
    """List the folder and those below it down to the parent of the classes, or of the class `within`."""
    levels = [folder]
    while True:
        inside = folder.filled
        if folder.pictures or len(inside) != 1 or inside[0].pictures or inside[0] is within:
            return levels
        folder = inside[0]
        levels.append(folder)


def _check_level(folder: _Folder, classes: Sequence[_Folder]) -> None:
    """Raise BadInput if a class folder is empty, or the class folders seem to be one level deeper."""
    if not classes:
        raise BadInput(f"{folder.path}: found no folder in it, {_FOLDER_OF_EACH}")
    for inside in _levels(folder)[-1].folders:
        if not inside.count:
            raise BadInput(f"{inside.path}: found no image in it, {EXPECTED}, or no such folder")
    deep = [one for one in classes if 2 * len(one.pictures) < one.count]
    if len(deep) < max(2, len(classes) / 2):
        return
    names = Counter(other.name for one in deep for other in one.filled)
    shared = [name for name, count in names.items() if count > 1]
    parts = bool(shared) and all(map(part_of, names))
    if parts or (len(shared) > 1 and 2 * len(shared) >= len(names)):
        place, repeated = listed(one.name for one in deep[:3]), listed(sorted(shared)[:4])
        expected = "train and test with a folder for each class inside" if parts else "one level of class folders"
        raise BadInput(
            f"{folder.path}: found the folders {repeated} repeated in {place}{', …' * (len(deep) > 3)}, "
            f"expected {expected}"
        )


def _refuse_difference(main: _Folder, other: _Folder, known: set[str], names: set[str]) -> None:
    more, fewer = sorted(names - known), sorted(known - names)
    if more and (near := [name for name in fewer if name.casefold() == more[0].casefold()]):
        found = f"the class {more[0]!r}, which is {near[0]!r} in {main.name}"
    elif more:
        found = f"the class {more[0]!r}, which isn't in {main.name}"
    else:
        found = f"no images of class {fewer[0]!r}, which is in {main.name}"
    raise BadInput(f"{other.path}: found {found}, expected the same classes in all parts")


def _understood_parts(folder: Path, parts: Mapping[str, _Folder], counts: Mapping[str, int]) -> list[str]:
    uses = {"train": "training", "validation": "validation", "test": "test"}
    described = [
        f"{_below(folder, parts[part].path)} ({counted(counts[part], 'image')}) for {uses[part]}"
        for part in parts
        if part
    ]
    return [f"parts by folder name: {', '.join(described)}"] if described else []


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _only(left_out: _LeftOut) -> str:
    """A clause on the files that aren't pictures, if any."""
    return f"; there are {left_out.kinds}" if left_out.endings else ""
