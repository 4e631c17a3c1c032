"""The scan: a number U_v for each item of a tile that the item's score can't exceed.

For a customer with components x_k, item v has the score (``docs/release-format.md``)::

    S_v = Σ_k α_k (x_k · y_v) + b_v + n_v

with weights α_k that differ from item to item, the item's bias b_v and what the history's
neighbours say of it, n_v.

Softmax weights are not negative and sum to 1, so Σ_k α_k (x_k · y_v) ≤ max_k x_k · y_v. A component
that the customer lacks is taken as 0: its logit is not -∞ but -10⁹, so that where the others' are
lower still it takes their weight, and adds nothing. Sigmoid weights lie between 0 and 1: there it
is at most Σ_k max(x_k · y_v, 0). Write x_k = t q_k + δ_k and y_v = s_v ŷ_v + ε_v, with whole
numbers q_k (up to 63) and ŷ_v (up to 127; ``quantise.py``). Then::

    x_k · y_v = s_v t (q_k · ŷ_v) + δ_k · s_v ŷ_v + x_k · ε_v
              ≤ s_v (t (q_k · ŷ_v) + |δ_k| |ŷ_v| + |x_k| |ε_v| / s_v)

by Cauchy and Schwarz. |ŷ_v| ≤ l and |ε_v| / s_v ≤ e hold for all items, so with the whole number
r ≥ (|δ_k| l + |x_k| e) / t for every k (for sigmoid weights the sum over k) no item has more than
U_v = s_v t (max_k q_k · ŷ_v + r) + b_v + n_v. What the graph computes in float32 differs from S_v
by rounding, and so does U_v: each term that is added adds at most 2⁻²⁴ of the sum of all sizes.
Twice that is added: for d terms of x_k · y_v and for b_v, and, each time that the history names the
item, for n_v and for the greatest x_k · y_v and b_v that there are.

q_k · ŷ_v is one product of 8-bit integers. As the customer's codes have no sign, they are q_k + 64,
up to 127: a pair of products, 2 × 127 × 127, stays below 2¹⁵, so that processors without VNNI,
which add pairs in 16 bits, are exact as well. Where a number may come near the end of float32, no
bound holds, and every item is scored.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.onnx_bytes import integer_product
from c2rec.runtime.engine.ort import onnxruntime
from c2rec.runtime.engine.scorer import CPU, Source, session_options
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.quantise import (
    LANES,
    LARGEST,
    NOBODY,
    SMALLEST_SCALE,
    lanes,
    tiles,
)

CODE = 63
"""Largest whole number that a customer is written in."""
ZERO = 64
"""What stands for 0 among the customer's codes, which have no sign."""
AT_ONCE = 16
"""Customers that go together at most."""
BLOCK = 65_536
"""Bounds that are computed at once: so many fit a level-2 cache."""
LIMIT = 1e37
"""Where a product or a sum may come near the end of float32, everything is scored."""
TOO_LARGE = 1e30
"""So it is for customers with a number above this."""
ROUNDING = 2.0**-23
"""Twice the relative error of one float32 operation."""
UNDERFLOW = np.float32(1e-36)
"""More than float32 loses where numbers become too small for it."""

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]


class Coded(NamedTuple):
    """Customers in whole numbers; arrays have a row for each."""

    codes: npt.NDArray[np.uint8]
    """uint8 (b, 3, d), q_k + 64"""
    step: _Floats
    """float32 (b,), t"""
    add: npt.NDArray[np.int32]
    """int32 (b,), r"""
    size: _Doubles
    """float64 (b,), what |y_v| is multiplied by to bound Σ_k α_k (x_k · y_v)"""
    hopeless: npt.NDArray[np.bool_]
    """bool (b,), where no bound holds"""

    def of(self, numbers: Sequence[int]) -> "Coded":
        """Of some of these customers, in their order."""
        if len(numbers) == len(self.step):
            return self
        some = np.array(numbers)
        return Coded(*(each[some] for each in self))


class Scan:
    """The item side of a release as the scan reads it, of m items in the order of the scan.

    Args:
        source: a release, of n items and embedding size d.
        sums: whether weights are sigmoids, each on its own.
        threads: threads for one request.

    Raises:
        ReleaseError: onnxruntime can't load the product.
        HomeError: the cache is damaged.
    """

    def __init__(self, source: Source, *, sums: bool, threads: int) -> None:
        self.items, self.size = source.array("item_embeddings").shape
        self.sums = sums
        self.slack = (self.size + 64) * ROUNDING

        # Of items (m,), and of their groups.
        self.order, self.scales, self.norms = (
            source.array(f"scan/{name}") for name in ("order", "scales", "norms")
        )
        self.error, self.length = (float(each) for each in source.array("scan/errors"))
        self.position = np.empty(self.items, np.int32)  # where a row stands
        present = np.flatnonzero(self.order != NOBODY)
        self.position[self.order[present]] = present
        bias = source.array("item_bias")
        raised = bias + (np.float32(self.slack) * np.abs(bias) + UNDERFLOW)  # (2, n)
        self.bias = np.full((2, len(self.order)), -np.inf, np.float32)
        self.bias[:, present] = raised[:, self.order[present]]
        self.tiles = tiles(self.items)
        self.lanes = np.concatenate([lanes(tile) for tile in self.tiles])  # (groups, 32)
        self.longest = self.norms[self.lanes].max(1)  # (groups,)
        # the greatest |y_v|, |b_v| and s_v that there are; a length may be beyond float32
        greatest = (each.max() for each in (self.longest, np.abs(bias), self.scales))
        self.reach = tuple(min(float(each), 1e100) for each in greatest)

        widest = max(tile.items.stop - tile.items.start for tile in self.tiles)
        self._codes = np.full((3 * AT_ONCE, self.size), ZERO, np.uint8)
        self._products = np.empty(3 * AT_ONCE * widest, np.int32)
        self._product = [
            _Product(source.array(f"scan/codes/{number}"), self._codes, self._products, threads)
            for number in range(len(self.tiles))
        ]
        # Made once: new pages would cost as much as the scan. Rows of customers that never come
        # take no memory.
        self.bounds = np.empty((AT_ONCE, len(self.order)), np.float32)
        """U of each customer's items, as far as they were scanned."""
        self.of_groups = np.empty((AT_ONCE, len(self.lanes)), np.float32)
        """The greatest of each group."""

    def encode(self, components: _Floats, has: npt.NDArray[np.bool_]) -> Coded:
        """Write customers in whole numbers.

        Args:
            components: float32 (b, 3, d), x_k, finite.
            has: bool (b, 3), which of them a customer has data for.
        """
        x = components if has.all() else np.where(has[..., None], components, np.float32(0))
        largest = np.abs(x).max((1, 2))  # (b,)
        too_large = largest > TOO_LARGE
        if too_large.any():
            x = np.where(too_large[:, None, None], np.float32(0), x)
        step = np.maximum(largest / np.float32(CODE), SMALLEST_SCALE)  # (b,)
        wide = step[:, None, None]
        whole = np.rint(x / wide)  # (b, 3, d)
        codes = (whole + ZERO).astype(np.uint8)
        both = np.concatenate([x - whole * wide, x], axis=1, dtype=np.float64)  # (b, 6, d)
        norms = np.sqrt(np.vecdot(both, both)).tolist()  # (b, 6): |δ_k|, then |x_k|
        add, reach, hopeless = [], [], too_large.tolist()
        # numbers of one customer are quicker one by one than as short arrays
        for number, (t, each) in enumerate(zip(step.tolist(), norms, strict=True)):
            r, size = self._bound(t, each[:3], each[3:])
            add.append(r)
            reach.append(size)
            hopeless[number] |= self._near_the_end(r, size)
        return Coded(codes, step, np.array(add, np.int32), np.array(reach), np.array(hopeless))

    def _bound(self, step: float, rests: list[float], sizes: list[float]) -> tuple[int, float]:
        """r, and what bounds Σ_k α_k (x_k · y_v) if multiplied by |y_v|; of t, |δ_k| and |x_k|."""
        slack = self.slack * (self.error + self.length)
        r = [
            (rest * (self.length + slack) + size * (self.error + slack)) / step + 1
            for rest, size in zip(rests, sizes, strict=True)
        ]
        return (int(sum(r)) + 1, sum(sizes)) if self.sums else (int(max(r)) + 1, max(sizes))

    def _near_the_end(self, add: int, size: float) -> bool:
        """Whether products come near the end of float32."""
        longest, bias, scale = self.reach
        whole = (CODE * LARGEST * self.size + add) * scale
        return not max(size * (longest * 4 + 1) + bias, whole) < LIMIT

    def begin(self, coded: Coded) -> None:
        """Take in whom the next runs are for, ``AT_ONCE`` customers at most."""
        self._codes[: 3 * len(coded.codes)] = coded.codes.reshape(-1, self.size)

    def run(self, number: int, coded: Coded, channel_bias: _Floats, said: _Floats) -> None:
        """Fill ``bounds`` and ``of_groups`` for a tile.

        Args:
            number: of the tile.
            coded: b customers, those that the scan began with.
            channel_bias: float32 (m,), b_v, -inf for what may not be found.
            said: float32 (b, items of the tile), n_v at most, -inf for what is left out.
        """
        items, groups = self.tiles[number]
        customers = len(coded.codes)
        products = self._product[number].run(customers)  # (b, 3, width)
        block = max(1, BLOCK // products.shape[2])
        for first in range(0, customers, block):
            some = slice(first, min(customers, first + block))
            p = products[some]
            greatest = p[:, 0]  # (block, width)
            if self.sums:
                np.maximum(p, 0, out=p)
                np.add(greatest, p[:, 1], out=greatest)
                np.add(greatest, p[:, 2], out=greatest)
            else:
                np.maximum(greatest, p[:, 1], out=greatest)
                np.maximum(greatest, p[:, 2], out=greatest)
            np.add(greatest, coded.add[some, None], out=greatest)
            bounds = self.bounds[some, items]  # (block, width)
            np.copyto(bounds, greatest, casting="unsafe")  # quicker than to multiply these
            bounds *= self.scales[items]
            bounds *= coded.step[some, None]
            bounds += channel_bias[items]
            bounds += said[some]
            bounds.reshape(len(bounds), LANES, -1).max(1, out=self.of_groups[some, groups])


class _Product:
    """The 8-bit product of one tile.

    Args:
        items: int8 (d, items), of the tile.
        codes: uint8 (3 AT_ONCE, d), where customers are read from.
        products: int32 (3 AT_ONCE * items or more,), where products are written to.
        threads: threads for one request.
    """

    def __init__(
        self,
        items: npt.NDArray[np.int8],
        codes: npt.NDArray[np.uint8],
        products: npt.NDArray[np.int32],
        threads: int,
    ) -> None:
        self._codes, self._products, self._width = codes, products, items.shape[1]
        options = session_options(threads)
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        # The session uses this memory, and its bindings theirs: nobody else keeps them.
        self._kept: list[object] = [items, initial := value(items)]
        try:
            options.add_external_initializers(["items"], [initial])
            graph = integer_product(*items.shape)
            self._session = onnxruntime.InferenceSession(graph, options, providers=CPU)
        except Exception as error:  # its classes share no base but Exception
            raise ReleaseError(f"onnxruntime can't load the scan: {error}") from error
        self._bound: dict[int, tuple[onnxruntime.IOBinding, npt.NDArray[np.int32]]] = {}

    def run(self, customers: int) -> npt.NDArray[np.int32]:
        """Multiply the codes of the first customers: int32 (customers, 3, items), used again."""
        try:
            binding, products = self._bound.get(customers) or self._bind(customers)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # its classes share no base but Exception
            raise ReleaseError(f"onnxruntime can't run the scan: {error}") from error
        return products

    def _bind(self, customers: int) -> tuple[onnxruntime.IOBinding, npt.NDArray[np.int32]]:
        rows = 3 * customers
        products = self._products[: rows * self._width].reshape(rows, self._width)
        arrays = self._codes[:rows], np.array(ZERO, np.uint8), products
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in arrays]
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("codes", values[0])
        binding.bind_ortvalue_input("zero", values[1])
        binding.bind_ortvalue_output("products", values[2])
        self._kept += [*arrays, *values]
        self._bound[customers] = binding, products.reshape(customers, 3, self._width)
        return self._bound[customers]
