"""Claim: every number of a convolution's three gradients is the sum of products that the formulas name: worked through
one by one, with stride 1 and with stride 2 and padding 1, all terms and all sums are exactly those of the hand-derived
rules, and all sums exactly those of `jax.grad` of plain lax.

One channel in, one out. Kernel tap i meets the input at u = s·p + i − l in output p (stride s, low padding l), and
every quantity is a sum over those meetings (p, i, u) that have its own index:

    y[p]     = sum x[u] · w[i] + b
    dL/dx[u] = sum w[i] · dy[p]      a full convolution of dy, its entries s apart, with the flipped kernel
    dL/dw[i] = sum x[u] · dy[p]      a cross-correlation of x with dy, its entries s apart
    dL/db    = sum dy[p]

The loss is L = ½ sum (y − t)², so dy = dL/dy = y − t. All is whole numbers, exact in float32, and compared for
equality: single terms with the ops for a kernel and a dy that are zero but for one entry. by_hand.txt has every line;
the same is repeated with numbers drawn at random.

    python -m experiments.backprop_by_hand
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from experiments import figures
from experiments.claim import Result, at_least, command
from experiments.figures import plt
from jaxconv import conv, conv_input_grad, conv_kernel_grad

TERM_COLOURS = ("#f4a582", "#92c5de", "#a6d96a", "#fee08b", "#c2a5cf", "#80cdc1", "#fbb4d9", "#d9c38f", "#b3b3e6")
ADDED_COLOUR = "0.88"
FIGURE_WIDTH = 19.6  # in cells
Index = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The gradients of a small convolution, number by number."""

    seeds: int = 3
    """How many times the two examples are repeated with other numbers."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


class Example(NamedTuple):
    """A convolution of whole numbers, and the entries that its figure follows."""

    title: str
    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    """Of shape (1,)."""
    target: np.ndarray
    stride: int
    padding: int
    output: Index = (0, 0)
    pixel: Index = (0, 0)
    tap: Index = (0, 0)


class Meeting(NamedTuple):
    """Output p, kernel tap i and input position u, where x[u] · w[i] is a term of y[p]."""

    p: Index
    i: Index
    u: Index


class Term(NamedTuple):
    """A product of two numbers, and where they stand."""

    names: str
    factors: tuple[int, int]
    meeting: Meeting


EXAMPLES = (
    Example(
        "stride 1, no padding",
        x=np.array([[1, 2, 0, 3], [2, 1, 1, 0], [0, 3, 2, 1], [1, 0, 2, 2]], np.float32),
        w=np.array([[2, 1], [-1, 3]], np.float32),
        b=np.array([1], np.float32),
        target=np.array([[5, 4, 1], [16, 5, 0], [1, 14, 12]], np.float32),
        stride=1,
        padding=0,
        output=(1, 1),
        pixel=(1, 2),
        tap=(0, 1),
    ),
    Example(
        "stride 2, padding 1",
        x=np.array([[1, 2, 0, 3, 1], [2, 1, 1, 0, 2], [0, 3, 2, 1, 1], [1, 0, 2, 2, 3], [2, 1, 0, 1, 2]], np.float32),
        w=np.array([[1, 2, -1], [3, 1, 2], [0, -2, 1]], np.float32),
        b=np.array([-1], np.float32),
        target=np.array([[-1, 8, 2], [7, 9, 0], [4, 8, 10]], np.float32),
        stride=2,
        padding=1,
        output=(1, 1),
        pixel=(1, 3),
        tap=(1, 2),
    ),
)


# --- By hand ---


def meetings(example: Example) -> list[Meeting]:
    """All (p, i, u) with u = s·p + i − l inside the input."""
    found = []
    for p in np.ndindex(*example.target.shape):
        for i in np.ndindex(*example.w.shape):
            row, column = (example.stride * p[axis] + i[axis] - example.padding for axis in (0, 1))
            if 0 <= row < example.x.shape[0] and 0 <= column < example.x.shape[1]:
                found.append(Meeting(p, i, (row, column)))
    return found


def terms_of(example: Example, quantity: str, dy: np.ndarray | None = None) -> dict[Index, list[Term]]:
    """The terms of every entry of "y", "x" (meaning dL/dx) or "w" (dL/dw): the products of the other two numbers."""
    # Each of the three, with the index that a meeting gives it.
    arrays = {"x": (example.x, "u"), "w": (example.w, "i"), "dy": (dy, "p")}
    left, right = {"y": ("x", "w"), "x": ("w", "dy"), "w": ("x", "dy")}[quantity]
    own = {"y": "p", "x": "u", "w": "i"}[quantity]
    entries: dict[Index, list[Term]] = {}
    for meeting in meetings(example):
        names, factors = [], []
        for name in (left, right):
            array, letter = arrays[name]
            assert array is not None, "a gradient needs dy"
            index = getattr(meeting, letter)
            names.append(f"{name}{shown_index(index)}")
            factors.append(int(array[index]))
        term = Term("·".join(names), (factors[0], factors[1]), meeting)
        entries.setdefault(getattr(meeting, own), []).append(term)
    return dict(sorted(entries.items()))


def sums(entries: dict[Index, list[Term]], shape: tuple[int, ...]) -> np.ndarray:
    """What the terms of every entry come to; zero where there are none."""
    total = np.zeros(shape, np.float32)
    for index, terms in entries.items():
        total[index] = sum(a * b for a, b in (term.factors for term in terms))
    return total


class ByHand(NamedTuple):
    """An example worked through."""

    y: np.ndarray
    dy: np.ndarray
    dx: np.ndarray
    dw: np.ndarray
    db: np.ndarray
    terms: dict[str, dict[Index, list[Term]]]
    """Those of "y", "x" and "w"."""


def work_through(example: Example) -> ByHand:
    """The forward and the backward pass with Python's whole numbers."""
    forward = terms_of(example, "y")
    y = sums(forward, example.target.shape) + int(example.b[0])
    dy = y - example.target
    terms = {"y": forward, "x": terms_of(example, "x", dy), "w": terms_of(example, "w", dy)}
    db = np.array([sum(int(entry) for entry in dy.flat)], np.float32)
    return ByHand(y, dy, sums(terms["x"], example.x.shape), sums(terms["w"], example.w.shape), db, terms)


# --- By the ops, and by autodiff of lax ---


def from_rules(example: Example) -> dict[str, tuple[np.ndarray, ...]]:
    """(y, dx, dw, db) by three ways of asking: the pullback of `conv`, the loss's gradient, the gradient ops."""
    x, w, b, target = _arrays(example)
    options: dict[str, Any] = {"strides": example.stride, "padding": example.padding}
    y, pullback = jax.vjp(lambda *arguments: conv(*arguments, **options), x, w, b)
    dy = y - target
    ops = (
        conv_input_grad(dy, w, example.x.shape, **options),
        conv_kernel_grad(x, dy, example.w.shape, **options),
        dy.sum((0, 1)),
    )
    by_grad = jax.grad(_loss(lambda *arguments: conv(*arguments, **options), target), (0, 1, 2))(x, w, b)
    ways = {"jax.vjp of conv": pullback(dy), "jax.grad through conv": by_grad, "the gradient ops": ops}
    return {name: _plain(y, *gradients) for name, gradients in ways.items()}


def from_lax(example: Example) -> tuple[np.ndarray, ...]:
    """(y, dx, dw, db) by `jax.grad` of plain lax."""
    x, w, b, target = _arrays(example)

    def plain(x, w, b):
        padding = [(example.padding, example.padding)] * 2
        y = lax.conv_general_dilated(
            x[None], w, (example.stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y[0] + b[None, None]

    return _plain(plain(x, w, b), *jax.grad(_loss(plain, target), (0, 1, 2))(x, w, b))


def single_terms(example: Example, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every term alone, by the gradient ops: of dL/dx as [p, i, u] and of dL/dw as [u, p, i], pairs of axes each.

    The ops get a kernel (or input) and a dy that are zero but for one entry, for all pairs of entries at once.
    """
    options: dict[str, Any] = {"strides": example.stride, "padding": example.padding}
    x, w, dys = (_one_by_one(array) for array in (example.x, example.w, dy))

    def input_terms(dy, w):
        return conv_input_grad(dy[..., None], w[..., None, None], example.x.shape, **options)[..., 0]

    def kernel_terms(x, dy):
        return conv_kernel_grad(x[..., None], dy[..., None], example.w.shape, **options)[..., 0, 0]

    def of_all_pairs(f, one, two):
        values = jax.jit(jax.vmap(jax.vmap(f, (None, 0)), (0, None)))(one, two)
        return np.asarray(values).reshape(*one.shape[1:], *two.shape[1:], *values.shape[2:])

    return of_all_pairs(input_terms, dys, w), of_all_pairs(kernel_terms, x, dys)


def _one_by_one(array: np.ndarray) -> jax.Array:
    """(N, *shape): for each of the array's N entries an array that is zero elsewhere."""
    return jnp.asarray(np.eye(array.size, dtype=np.float32).reshape(-1, *array.shape) * array[None])


def _arrays(example: Example) -> tuple[jax.Array, ...]:
    return (
        jnp.asarray(example.x)[..., None],
        jnp.asarray(example.w)[..., None, None],
        jnp.asarray(example.b),
        jnp.asarray(example.target)[..., None],
    )


def _loss(f, target):
    return lambda *arguments: 0.5 * ((f(*arguments) - target) ** 2).sum()


def _plain(y, dx, dw, db) -> tuple[np.ndarray, ...]:
    return np.asarray(y)[..., 0], np.asarray(dx)[..., 0], np.asarray(dw)[..., 0, 0], np.asarray(db)


# --- Both, compared ---


class Comparison(NamedTuple):
    """How many numbers were compared, and how many of them differ."""

    terms: int
    terms_off: int
    sums: int
    sums_off: int


def compared(example: Example) -> Comparison:
    """By hand against the rules and lax: every term and every sum."""
    hand = work_through(example)
    expected = (hand.y, hand.dx, hand.dw, hand.db)
    answers = [*from_rules(example).values(), from_lax(example)]
    off = sum(int((a != b).sum()) for answer in answers for a, b in zip(answer, expected, strict=True))

    of_x, of_w = single_terms(example, hand.dy)
    hand_x, hand_w = np.zeros_like(of_x), np.zeros_like(of_w)
    for terms in hand.terms["x"].values():
        for (a, b), (p, i, u) in ((term.factors, term.meeting) for term in terms):
            hand_x[(*p, *i, *u)] = a * b
    for terms in hand.terms["w"].values():
        for (a, b), (p, i, u) in ((term.factors, term.meeting) for term in terms):
            hand_w[(*u, *p, *i)] = a * b
    # What no meeting names has to be zero, so the comparison is of all triples and not of the named ones alone.
    terms_off = int((of_x != hand_x).sum() + (of_w != hand_w).sum())
    named = sum(len(terms) for name in ("x", "w") for terms in hand.terms[name].values())
    return Comparison(named, terms_off, sum(array.size for array in expected), off)


def redrawn(example: Example, seed: int) -> Example:
    """The example with other whole numbers, from −4 to 4 (the target from −9 to 9)."""
    rng = np.random.default_rng(seed)
    arrays = {name: getattr(example, name).shape for name in ("x", "w", "b", "target")}
    most = {"x": 4, "w": 4, "b": 4, "target": 9}
    return example._replace(
        **{name: rng.integers(-most[name], most[name] + 1, shape).astype(np.float32) for name, shape in arrays.items()}
    )


def run(settings: Settings, folder: Path) -> Result:
    """Works the examples through, compares, writes them out and draws them."""
    at_least(settings, seeds=1)
    shown = [compared(example) for example in EXAMPLES]
    drawn = [[compared(redrawn(example, seed)) for example in EXAMPLES] for seed in range(settings.seeds)]
    text = "\n\n".join(written_out(example) for example in EXAMPLES)
    (folder / "by_hand.txt").write_text(text + "\n", encoding="utf-8")
    files = ("stride_1.png", "stride_2.png")
    for example, file in zip(EXAMPLES, files, strict=True):
        draw(example, folder / file)
    all_of_them = [*shown, *(one for pair in drawn for one in pair)]
    rows: list[Sequence] = [("example", "terms of the gradients", "differing", "numbers of y, dx, dw, db", "differing")]
    rows += [(example.title, *comparison) for example, comparison in zip(EXAMPLES, shown, strict=True)]
    return Result(
        holds=all(one.terms_off == one.sums_off == 0 for one in all_of_them),
        numbers={
            "terms of the gradients": sum(one.terms for one in shown),
            "of these, other than the rules'": sum(one.terms_off for one in shown),
            "numbers of y, dL/dx, dL/dw and dL/db": sum(one.sums for one in shown),
            "other by jax.vjp, jax.grad, the gradient ops or lax": sum(one.sums_off for one in shown),
            "terms that differ, other numbers drawn": [sum(one.terms_off for one in pair) for pair in drawn],
            "sums that differ, other numbers drawn": [sum(one.sums_off for one in pair) for pair in drawn],
        },
        figures={
            file: f"A convolution and its gradients by hand, {example.title}: a colour is one product"
            for example, file in zip(EXAMPLES, files, strict=True)
        },
        tables={"By hand against the rules and plain lax": rows},
        text=text,
        seeds=settings.seeds,
    )


# --- Written out ---


def shown_index(index: Index) -> str:
    """[1,2]."""
    return "[" + ",".join(map(str, index)) + "]"


def shown_number(n: int) -> str:
    """−2."""
    return f"{n}".replace("-", "−")


def shown_factor(n: int) -> str:
    """(−2) or 2."""
    return f"({shown_number(n)})" if n < 0 else f"{n}"


def shown_product(factors: tuple[int, int]) -> str:
    """2·(−1)."""
    return "·".join(map(shown_factor, factors))


def shown_signed(n: int) -> str:
    """− 2 or + 2."""
    return f"{'−' if n < 0 else '+'} {abs(n)}"


def written_out(example: Example) -> str:
    """The example as text: its numbers, and every entry with its terms by name and by number."""
    hand = work_through(example)
    lines = [example.title, "=" * len(example.title)]
    named = {"x": example.x, "w": example.w, "b": example.b[None], "y": hand.y, "t": example.target, "dy": hand.dy}
    for name, array in named.items():
        rows = [" ".join(f"{shown_number(int(n)):>3s}" for n in row) for row in array]
        lines += ["", *(f"{name if number == 0 else '':3s}{row}" for number, row in enumerate(rows))]
    for quantity, name, values in (("y", "y", hand.y), ("x", "dL/dx", hand.dx), ("w", "dL/dw", hand.dw)):
        names_of_b, number_of_b = (" + b", f" {shown_signed(int(example.b[0]))}") if quantity == "y" else ("", "")
        lines.append("")
        for index, terms in hand.terms[quantity].items():
            head = f"{name}{shown_index(index)}"
            names = " + ".join(term.names for term in terms)
            products = " + ".join(shown_product(term.factors) for term in terms)
            lines.append(f"{head} = {names}{names_of_b}")
            lines.append(f"{'':{len(head)}} = {products}{number_of_b} = {shown_number(int(values[index]))}")
    entries = " + ".join(shown_factor(int(n)) for n in hand.dy.flat)
    return "\n".join([*lines, "", f"dL/db = sum of dy = {entries} = {shown_number(int(hand.db[0]))}"])


# --- Drawn ---


class Grid(NamedTuple):
    """A matrix of the figure."""

    title: str
    values: np.ndarray
    real: np.ndarray
    """False where there is a zero that was put in."""
    where: Callable[[Meeting], Index]
    """The cell that takes part in a meeting."""


def spread(title: str, array: np.ndarray, letter: str, step: int = 1, around: int = 0) -> Grid:
    """The array, its entries `step` apart and zeros around; a meeting's index into it is its p, i or u."""
    shape = [step * (size - 1) + 1 + 2 * around for size in array.shape]
    values, real = np.zeros(shape, np.float32), np.zeros(shape, bool)
    places = tuple(slice(around, size - around, step) for size in shape)
    values[places], real[places] = array, True
    words = ["in it"] * (step > 1) + ["around"] * (around > 0)
    title += f", zeros {' and '.join(words)}" if words else ""

    def where(meeting: Meeting) -> Index:
        row, column = getattr(meeting, letter)
        return step * row + around, step * column + around

    return Grid(title, values, real, where)


class Step(NamedTuple):
    """One line of the figure: left ⋆ kernel = result, and the sum behind one entry of the result."""

    heading: str
    left: Grid
    corner: Index
    """Where the kernel lies on the left matrix."""
    kernel: Grid
    result: str
    values: np.ndarray
    index: Index
    terms: list[Term]
    bias: int = 0

    @property
    def height(self) -> float:
        """In cells."""
        return self.left.values.shape[0] + 4.6


def draw(example: Example, path: Path) -> None:
    """Forward, dL/dx and dL/dw: of each, one entry followed from the numbers to their sum."""
    hand = work_through(example)
    stride, low, taps = example.stride, example.padding, example.w.shape[0]
    (p, u, i), terms = (example.output, example.pixel, example.tap), hand.terms
    x, w = spread("x", example.x, "u", around=low), spread("w", example.w, "i")
    flipped = Grid("w flipped", w.values[::-1, ::-1], w.real, lambda m: (taps - 1 - m.i[0], taps - 1 - m.i[1]))
    dy = spread("∂L/∂y", hand.dy, "p", stride)
    full = spread("∂L/∂y", hand.dy, "p", stride, around=taps - 1 - low)
    corner = (stride * p[0], stride * p[1])
    steps = (
        Step("Forward: y = x ⋆ w + b", x, corner, w, "y", hand.y, p, terms["y"][p], int(example.b[0])),
        Step("∂L/∂x: full convolution of ∂L/∂y with w", full, u, flipped, "∂L/∂x", hand.dx, u, terms["x"][u]),
        Step("∂L/∂w: cross-correlation of x with ∂L/∂y", x, i, dy, "∂L/∂w", hand.dw, i, terms["w"][i]),
    )
    height = sum(step.height for step in steps) + 3.2
    figure = plt.figure(figsize=(8.5, 8.5 * height / FIGURE_WIDTH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.text(FIGURE_WIDTH / 2, 0.9, f"Backpropagation by hand: {example.title}", ha="center", va="center", size=20)
    top = 1.8
    for step in steps:
        draw_step(axes, top, step)
        top += step.height
    db = f"∂L/∂b = the sum of ∂L/∂y = {shown_number(int(hand.db[0]))}"
    axes.text(FIGURE_WIDTH / 2, height - 0.8, db, ha="center", va="center", size=17)
    axes.set(xlim=(0, FIGURE_WIDTH), ylim=(height, 0))
    figures.save(figure, path)


def draw_step(axes: Axes, top: float, step: Step) -> None:
    """One line of the figure; every term of the sum has a colour, in the matrices and in the sum."""
    colours = dict(zip((term.meeting for term in step.terms), TERM_COLOURS, strict=False))
    axes.text(FIGURE_WIDTH / 2, top + 0.4, step.heading, ha="center", va="center", size=17, weight="bold")
    result = spread(step.result, step.values, "p")
    grids = (step.left, step.kernel, result)
    gap = 1.5
    x = (FIGURE_WIDTH - sum(grid.values.shape[1] for grid in grids) - 2 * gap) / 2
    middle = top + 1.9 + step.left.values.shape[0] / 2
    corners = []
    for grid, sign in zip(grids, ("⋆", "=", ""), strict=True):
        rows, columns = grid.values.shape
        shades = np.where(grid.real, "white", ADDED_COLOUR).astype(object)
        for meeting, colour in colours.items():
            if grid is not result:
                shades[grid.where(meeting)] = colour
        corners.append((x, middle - rows / 2))
        figures.cells(axes, grid.values, grid.title, shades, corner=corners[-1], size=16)
        axes.text(x + columns + gap / 2, middle, sign, ha="center", va="center", size=22)
        x += columns + gap
    outline(axes, corners[0], step.corner, step.kernel.values.shape)
    outline(axes, corners[2], step.index, (1, 1))
    draw_sum(axes, top + step.left.values.shape[0] + 2.9, step, list(colours.values()))


def outline(axes: Axes, corner: tuple[float, float], cell: Index, shape: tuple[int, ...]) -> None:
    """A thick frame around cells of a matrix."""
    x, y = corner[0] + cell[1], corner[1] + cell[0]
    axes.add_patch(Rectangle((x, y), shape[1], shape[0], fill=False, edgecolor="black", linewidth=3.5, zorder=3))


def draw_sum(axes: Axes, y: float, step: Step, colours: list[str]) -> None:
    """The sum behind the entry: a coloured box per product."""
    width, sign_width = 1.45, 0.36
    value = shown_number(int(step.values[step.index]))
    bias = f" {shown_signed(step.bias)}" if step.bias else ""
    x = (FIGURE_WIDTH - len(step.terms) * (width + sign_width)) / 2 - (0.9 if step.bias else 0.3)
    axes.text(x - 0.1, y, "=", ha="right", va="center", size=16)
    for number, (term, colour) in enumerate(zip(step.terms, colours, strict=True)):
        axes.add_patch(Rectangle((x, y - 0.5), width, 1, facecolor=colour, edgecolor="0.35"))
        axes.text(x + width / 2, y, shown_product(term.factors), ha="center", va="center", size=13)
        x += width + sign_width
        if number + 1 < len(step.terms):
            axes.text(x - sign_width / 2, y, "+", ha="center", va="center", size=14)
    axes.text(x - 0.15, y, f"{bias} = {value}".strip(), ha="left", va="center", size=16)


if __name__ == "__main__":
    sys.exit(command(Settings, run))
