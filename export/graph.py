"""The two ONNX graphs of a release, written in ONNX's own text format.

Both are self-contained: standard operators alone, so that any runtime in any language can run
them. ``docs/release-format.md`` explains inputs and outputs. ``parity.py`` proves that they
compute what the PyTorch model computes.
"""

from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper, parser

from c2rec.train.config import AttentionName
from c2rec.train.model import C2Rec

OPSET = 23
"""The newest that the oldest onnxruntime we support can run."""
IR_VERSION = 11
"""The one that belongs to it."""

_WEIGH = {
    "softmax": "Softmax <axis = 1>",
    "sigmoid": "Sigmoid",
    # with W_c and b_{c,v,k} at 0, or all of the logit, these are softmax as well
    "learned": "Softmax <axis = 1>",
    "none": "Softmax <axis = 1>",
}
"""How logits become weights."""

# One product scores all but the neighbour term: the rows of `both` are x_k and W_cᵀ x_k / √d, six
# per customer, and [x; W_cᵀ x / √d] · yᵀ holds both the affinities and the attention's logits. The
# neighbour term gathers the rows of the items bought and adds each entry to the item it names.
_SCORER = """
<ir_version: {ir}, opset_import: ["": {opset}]>
scorer (
    float[2, {d}, {d}] channel_weights,
    float[batch, 3, {d}] components,
    bool[batch, 3] has,
    int64 channel,
    float[items, {d}] item_embeddings,
    float[2, items] item_bias,
    float[2, 3, items] attention_bias,
    int64[batch, length] history_items,
    float[batch, length] history_weights,
    int32[items, neighbours] neighbour_items,
    float16[items, 2, neighbours] neighbour_weights
) => (
    float[batch, items] scores,
    float[batch, 3, items] attention
)
<
    float masked = {{-1e9}},
    int64[2] halves = {{3, 3}},
    int64[1] component_axis = {{1}},
    int64[1] last_axis = {{2}},
    float one = {{1}}
>
{{
    weight = Gather <axis = 0> (channel_weights, channel)
    turned = MatMul (components, weight)
    both = Concat <axis = 1> (components, turned)
    flat = Flatten <axis = 2> (both)
    products = Gemm <transB = 1> (flat, item_embeddings)
    batch_size = Shape <start = 0, end = 1> (components)
    item_count = Shape <start = 0, end = 1> (item_embeddings)
    six = Constant <value_ints = [6]> ()
    shape = Concat <axis = 0> (batch_size, six, item_count)
    split = Reshape <allowzero = 1> (products, shape)
    affinities, bare_logits = Split <axis = 1> (split, halves)
    logit_bias = Gather <axis = 0> (attention_bias, channel)
    logits = Add (bare_logits, logit_bias)
    has_axis = Unsqueeze (has, last_axis)
    masked_logits = Where (has_axis, logits, masked)
    weights = {weigh} (masked_logits)
    has_float = Cast <to = 1> (has_axis)
    attention = Mul (weights, has_float)
    parts = Mul (attention, affinities)
    weighed = ReduceSum <keepdims = 0> (parts, component_axis)
    bias = Gather <axis = 0> (item_bias, channel)
    attended = Add (weighed, bias)
    named = Gather <axis = 0> (neighbour_items, history_items)
    both_channels = Gather <axis = 0> (neighbour_weights, history_items)
    half_weights = Gather <axis = 2> (both_channels, channel)
    neighbour_rows = Cast <to = 1> (half_weights)
    count = ReduceSum <keepdims = 1> (history_weights, component_axis)
    divisor = Max (count, one)
    shares = Div (history_weights, divisor)
    share_axis = Unsqueeze (shares, last_axis)
    spoken = Mul (neighbour_rows, share_axis)
    places = Flatten <axis = 1> (named)
    additions = Flatten <axis = 1> (spoken)
    scores = ScatterElements <axis = 1, reduction = "add"> (attended, places, additions)
}}
"""

# masks has one row per component: all purchases, the store's, the web shop's.
_ENCODER = """
<ir_version: {ir}, opset_import: ["": {opset}]>
encoder (
    float[items, {d}] source_embeddings,
    int64[batch, length] history_items,
    int64[batch, length] history_channels,
    float[batch, length] history_weights,
    float[1, 3, 1] gain,
    float pooling
) => (
    float[batch, 3, {d}] components,
    bool[batch, 3] has
)
<
    float zero = {{0}},
    float one = {{1}},
    int64 offline = {{0}},
    int64 online = {{1}},
    int64[1] component_axis = {{1}},
    int64[1] last_axis = {{2}}
>
{{
    sources = Gather <axis = 0> (source_embeddings, history_items)
    is_offline = Equal (history_channels, offline)
    is_online = Equal (history_channels, online)
    offline_weights = Where (is_offline, history_weights, zero)
    online_weights = Where (is_online, history_weights, zero)
    shared_row = Unsqueeze (history_weights, component_axis)
    offline_row = Unsqueeze (offline_weights, component_axis)
    online_row = Unsqueeze (online_weights, component_axis)
    masks = Concat <axis = 1> (shared_row, offline_row, online_row)
    sums = MatMul (masks, sources)
    counts = ReduceSum <keepdims = 1> (masks, last_axis)
    at_least_one = Max (counts, one)
    norm = Pow (at_least_one, pooling)
    scale = Div (gain, norm)
    components = Mul (sums, scale)
    flat_counts = Squeeze (counts, last_axis)
    has = Greater (flat_counts, zero)
}}
"""


def scorer_graph(model: C2Rec, release: str) -> onnx.ModelProto:
    """Build ``scorer.onnx`` with W_c / √d inside."""
    size = model.config.embedding_size
    weights = (model.attention_weight / size**0.5).detach().numpy()
    text = _SCORER.replace("{weigh}", _WEIGH[model.config.attention])
    return _build(text, {"channel_weights": weights}, size, release)


def bare_scorer_graph(attention: AttentionName = "softmax") -> onnx.ModelProto:
    """Build a ``scorer.onnx`` of any embedding size, with W_c / √d as one more input.

    It is no release's: ``runtime/scorer.onnx`` is this graph, for catalogues made at random.
    """
    return _build(_SCORER.replace("{weigh}", _WEIGH[attention]), {}, "d", "")


def encoder_graph(model: C2Rec, release: str) -> onnx.ModelProto:
    """Build ``encoder.onnx`` of a model with the history encoder."""
    gain = model.gain.detach().numpy()[None, :, None]  # (1, 3, 1)
    pooling = np.array(model.config.pooling, dtype=np.float32)
    return _build(
        _ENCODER, {"gain": gain, "pooling": pooling}, model.config.embedding_size, release
    )


def _build(
    text: str, weights: dict[str, npt.NDArray[np.float32]], size: int | str, release: str
) -> onnx.ModelProto:
    graph = parser.parse_model(text.format(ir=IR_VERSION, opset=OPSET, d=size))
    # the text declares the weights' names and shapes, as inputs; their values come here
    declared = [each for each in graph.graph.input if each.name in weights]
    for each in declared:
        graph.graph.input.remove(each)
    for name, value in weights.items():
        graph.graph.initializer.append(numpy_helper.from_array(value, name))
    graph.producer_name = "c2rec"
    graph.producer_version = version("c2rec")
    onnx.helper.set_model_props(graph, {"release": release, "format": "1"})
    onnx.checker.check_model(graph, full_check=True)
    return graph
