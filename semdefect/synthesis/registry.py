"""Which families of scenes each class has. A family registers itself when its module is imported."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from semdefect import CLASSES
from semdefect.errors import UserError

from .canvas import Canvas
from .sampling import Rng, pick
from .scene import Scene

Draw = Callable[[Rng, Canvas], Scene]


@dataclass(frozen=True)
class Family:
    """A way to draw scenes of one class.

    ``weight`` is its share within the class. A family draws scenes itself (``draw``), or, only for clean,
    takes those of another class with the defect off (``twin_of``). ``paired`` says that its scenes have such
    a twin.
    """

    class_name: str
    name: str
    weight: float
    draw: Draw | None = None
    twin_of: str | None = None
    paired: bool = True


#: class name → family name → family, filled by the modules of ``families``.
FAMILIES: dict[str, dict[str, Family]] = {name: {} for name in CLASSES}


def register(entry: Family) -> None:
    """Add a family; a second one of the same class and name is a programming error."""
    known = FAMILIES[entry.class_name]
    if entry.name in known:
        raise ValueError(f"family {entry.class_name}/{entry.name} is registered twice")
    known[entry.name] = entry


def family(class_name: str, name: str, weight: float, paired: bool = True) -> Callable[[Draw], Draw]:
    """Register the decorated ``draw(rng, canvas) -> Scene`` as a family of a class."""

    def decorate(draw: Draw) -> Draw:
        register(Family(class_name, name, weight, draw=draw, paired=paired))
        return draw

    return decorate


def families_of(class_name: str) -> dict[str, Family]:
    """Return the families of a class by name, in a fixed order; an unknown class is a UserError."""
    if class_name not in FAMILIES:
        raise UserError(f"unknown class {class_name!r}: use one of {', '.join(CLASSES)}")
    known = FAMILIES[class_name]
    return {name: known[name] for name in sorted(known)}


def pick_family(rng: Rng, class_name: str, without: frozenset[str] = frozenset()) -> Family:
    """Draw a family of a class by its weights; one named in ``without`` (``bridge/fork``) is drawn again.

    So leaving a family out changes only the images that were of it. A class without any family left, or a name that
    is none, is a UserError.
    """
    members = families_of(class_name)
    weights = {name: entry.weight for name, entry in members.items()}
    chosen = pick(rng, weights)
    left = {name: weight for name, weight in weights.items() if f"{class_name}/{name}" not in without}
    if not left:
        raise UserError(f"class {class_name} has no family left: leave one in")
    return members[chosen if chosen in left else pick(rng, left)]


def check_families(names: Iterable[str]) -> None:
    """Refuse what is not ``class/family``, with a UserError that lists the allowed names."""
    for name in names:
        class_name, _, family_name = name.partition("/")
        find_family(class_name, family_name)


def find_family(class_name: str, name: str) -> Family:
    """Return one family of a class; an unknown one is a UserError that lists the allowed names."""
    known = families_of(class_name)
    if name not in known:
        raise UserError(f"unknown family {name!r} of class {class_name}: use one of {', '.join(known)}")
    return known[name]
