"""Claim: no convnet op of the other libraries is missing here, but for those left out with a reason.

    python -m experiments.compare_features
    python -m experiments.compare_features --markdown

Every public name of jax.nn, optax.losses, flax.linen, equinox.nn, haiku and torch.nn.functional, as far as they are
installed, is either in the table, beside our op, or among the reasons. A name in neither, or a name of ours that does
not exist, is an error: the exit status is 1. What the options of an op are is not inspected; those rows say so (†).
"""

import dataclasses
import importlib
import sys

import rich
import rich.table
import tyro

import jaxconv

PEERS = {
    "jax": ("jax.nn", "jax.lax", "jax.numpy"),
    "optax": ("optax.losses",),
    "Flax": ("flax.linen",),
    "Equinox": ("equinox.nn",),
    "Haiku": ("haiku",),
    "torch": ("torch.nn.functional",),
}
# Of these every public name must be accounted for; jax.lax and jax.numpy are only looked into.
WHOLE = ("jax.nn", "optax.losses", "flax.linen", "equinox.nn", "haiku", "torch.nn.functional")


@dataclasses.dataclass(frozen=True)
class Feature:
    """A row: our names, and theirs, separated by spaces; * stands for 1d, 2d and 3d. `by_hand` rows are options."""

    name: str
    ours: str
    jax: str = ""
    optax: str = ""
    flax: str = ""
    equinox: str = ""
    haiku: str = ""
    torch: str = ""
    by_hand: bool = False

    def theirs(self, peer: str) -> list[str]:
        """The names that a peer has it by."""
        names = getattr(self, peer.lower()).split()
        return [name.replace("*", dim) for name in names for dim in (("1d", "2d", "3d") if "*" in name else ("",))]


_D = ["1D", "2D", "3D"]


def _haiku(name: str) -> str:
    return " ".join(name.replace("*", dim) for dim in _D)


FEATURES = (
    Feature(
        "convolution, any number of axes",
        "conv",
        "conv_general_dilated conv",
        flax="Conv",
        equinox="Conv Conv*",
        haiku="ConvND " + _haiku("Conv*"),
        torch="conv* conv_tbc",
    ),
    Feature("its gradients as ops", "conv_input_grad conv_kernel_grad"),
    Feature(
        "transposed convolution",
        "conv_transpose",
        "conv_transpose",
        flax="ConvTranspose",
        equinox="ConvTranspose ConvTranspose*",
        haiku="ConvNDTranspose " + _haiku("Conv*Transpose"),
        torch="conv_transpose*",
    ),
    Feature("lax's general convolution", "conv_general_dilated", "conv_general_dilated"),
    Feature("depthwise", "depthwise_conv", haiku=_haiku("DepthwiseConv*")),
    Feature("separable", "separable_conv", haiku="SeparableDepthwiseConv2D"),
    Feature("patches (unfold)", "conv_patches", "conv_general_dilated_patches", torch="unfold"),
    Feature("their adjoint (fold)", "fold", torch="fold"),
    Feature("pixel shuffle and back", "depth_to_space space_to_depth", torch="pixel_shuffle pixel_unshuffle"),
    Feature("padding", "pad", "pad", torch="pad", haiku="pad"),
    Feature(
        "padding by name: SAME, VALID",
        "conv",
        "conv_general_dilated",
        flax="Conv",
        haiku="Conv2D",
        equinox="Conv",
        torch="conv2d",
        by_hand=True,
    ),
    Feature("SAME_LOWER", "conv", "conv_general_dilated", flax="Conv", equinox="Conv", by_hand=True),
    Feature("CAUSAL", "conv", flax="Conv", haiku="pad", by_hand=True),
    Feature("FULL", "conv", haiku="pad", by_hand=True),
    Feature("CIRCULAR, REFLECT", "conv", flax="Conv", equinox="Conv", by_hand=True),
    Feature("REPLICATE", "conv", equinox="Conv", by_hand=True),
    Feature("SYMMETRIC, and kinds mixed per axis", "conv", by_hand=True),
    Feature(
        "groups, dilation",
        "conv",
        "conv_general_dilated",
        flax="Conv",
        equinox="Conv",
        haiku="Conv2D",
        torch="conv2d",
        by_hand=True,
    ),
    Feature("channels first and last", "conv", "conv_general_dilated", haiku="Conv2D", by_hand=True),
    Feature(
        "max pooling",
        "max_pool",
        "reduce_window",
        flax="max_pool pool",
        equinox="MaxPool* Pool",
        haiku="max_pool MaxPool",
        torch="max_pool*",
    ),
    Feature("min pooling", "min_pool", "reduce_window", flax="pool", equinox="Pool"),
    Feature("sum pooling", "sum_pool", "reduce_window", flax="pool", equinox="Pool"),
    Feature(
        "average pooling",
        "avg_pool",
        flax="avg_pool",
        equinox="AvgPool*",
        haiku="avg_pool AvgPool",
        torch="avg_pool*",
    ),
    Feature("Lp pooling", "lp_pool", torch="lp_pool*"),
    Feature("logsumexp pooling", "logsumexp_pool"),
    Feature(
        "max pooling with indices, and unpooling",
        "max_pool_with_indices max_unpool",
        torch="max_pool*_with_indices max_unpool*",
    ),
    Feature(
        "adaptive pooling",
        "adaptive_avg_pool adaptive_max_pool",
        equinox="AdaptiveAvgPool* AdaptiveMaxPool* AdaptivePool",
        torch="adaptive_avg_pool* adaptive_max_pool*",
    ),
    Feature(
        "global pooling",
        "global_avg_pool global_max_pool global_min_pool global_sum_pool global_lp_pool global_logsumexp_pool",
    ),
    Feature("dilation in pooling", "max_pool", "reduce_window", torch="max_pool2d", by_hand=True),
    Feature("ceil_mode", "max_pool avg_pool", equinox="MaxPool2d", torch="max_pool2d", by_hand=True),
    Feature("count_include_pad", "avg_pool", flax="avg_pool", torch="avg_pool2d", by_hand=True),
    *(
        Feature(name, ours, jax, flax=flax, torch=torch, equinox=equinox)
        for name, ours, jax, flax, torch, equinox in (
            ("identity", "identity", "identity", "", "", "Identity"),
            ("relu", "relu", "relu", "relu", "relu relu_", ""),
            ("relu6", "relu6", "relu6", "relu6", "relu6", ""),
            ("leaky relu", "leaky_relu", "leaky_relu", "leaky_relu", "leaky_relu leaky_relu_", ""),
            ("prelu, with the slope's gradient", "prelu", "", "PReLU", "prelu", "PReLU"),
            ("threshold", "threshold", "", "", "threshold threshold_", ""),
            ("hard tanh", "hard_tanh", "hard_tanh", "hard_tanh", "hardtanh hardtanh_", ""),
            ("hard sigmoid", "hard_sigmoid", "hard_sigmoid", "hard_sigmoid", "hardsigmoid", ""),
            ("hard swish", "hard_silu hard_swish", "hard_silu hard_swish", "hard_silu hard_swish", "hardswish", ""),
            (
                "hard, soft and tanh shrink",
                "hard_shrink soft_shrink tanh_shrink",
                "",
                "",
                "hardshrink softshrink tanhshrink",
                "",
            ),
            ("sigmoid", "sigmoid", "sigmoid", "sigmoid", "sigmoid", ""),
            ("log sigmoid", "log_sigmoid", "log_sigmoid", "log_sigmoid", "logsigmoid", ""),
            ("softplus", "softplus", "softplus", "softplus", "softplus", ""),
            ("sparse plus and sigmoid", "sparse_plus sparse_sigmoid", "sparse_plus sparse_sigmoid", "", "", ""),
            ("squareplus", "squareplus", "squareplus", "", "", ""),
            ("tanh", "tanh", "tanh", "tanh", "tanh", ""),
            ("softsign", "soft_sign", "soft_sign", "soft_sign", "softsign", ""),
            ("silu (swish)", "silu swish", "silu swish", "silu swish", "silu", ""),
            ("mish", "mish", "mish", "", "mish", ""),
            ("gelu, both forms", "gelu", "gelu", "gelu", "gelu", ""),
            ("elu", "elu", "elu", "elu", "elu elu_", ""),
            ("celu", "celu", "celu", "celu", "celu celu_", ""),
            ("selu", "selu", "selu", "selu", "selu selu_", ""),
            ("glu", "glu", "glu", "glu", "glu", ""),
            ("log(1 − exp(−x))", "log1mexp", "log1mexp", "", "", ""),
            ("softmax, with a mask", "softmax", "softmax", "softmax", "softmax", ""),
            ("log softmax, with a mask", "log_softmax", "log_softmax", "log_softmax", "log_softmax", ""),
            ("softmin", "softmin", "", "", "softmin", ""),
            ("Gumbel softmax", "gumbel_softmax", "", "", "gumbel_softmax", ""),
            ("log-sum-exp, log-mean-exp", "logsumexp logmeanexp", "logsumexp logmeanexp", "logsumexp", "", ""),
            ("standardize", "standardize", "standardize", "standardize", "", ""),
        )
    ),
    Feature(
        "dense, any batch axes", "dense", "dot_general", flax="Dense", equinox="Linear", haiku="Linear", torch="linear"
    ),
    Feature("flatten", "flatten", haiku="Flatten"),
    Feature(
        "batch norm, across devices",
        "batch_norm batch_norm_inference",
        flax="BatchNorm",
        equinox="BatchNorm",
        haiku="BatchNorm",
        torch="batch_norm",
    ),
    Feature("layer norm", "layer_norm", flax="LayerNorm", equinox="LayerNorm", haiku="LayerNorm", torch="layer_norm"),
    Feature("RMS norm", "rms_norm", flax="RMSNorm", equinox="RMSNorm", haiku="RMSNorm", torch="rms_norm"),
    Feature("group norm", "group_norm", flax="GroupNorm", equinox="GroupNorm", haiku="GroupNorm", torch="group_norm"),
    Feature("instance norm", "instance_norm", flax="InstanceNorm", haiku="InstanceNorm", torch="instance_norm"),
    Feature(
        "dropout, also of whole channels",
        "dropout",
        flax="Dropout",
        equinox="Dropout",
        haiku="dropout",
        torch="dropout dropout*",
    ),
    Feature("stochastic depth", "drop_path"),
    Feature(
        "softmax cross-entropy",
        "softmax_cross_entropy",
        optax="softmax_cross_entropy safe_softmax_cross_entropy smooth_labels",
        torch="cross_entropy",
    ),
    Feature(
        "the same with integer labels",
        "softmax_cross_entropy_with_integer_labels",
        optax="softmax_cross_entropy_with_integer_labels",
        torch="cross_entropy nll_loss",
    ),
    Feature(
        "class weights, ignore_index, label smoothing",
        "softmax_cross_entropy_with_integer_labels",
        torch="cross_entropy",
        by_hand=True,
    ),
    Feature(
        "sigmoid cross-entropy, with pos_weight",
        "sigmoid_binary_cross_entropy",
        optax="sigmoid_binary_cross_entropy",
        torch="binary_cross_entropy_with_logits binary_cross_entropy",
    ),
    Feature("squared error", "squared_error l2_loss", optax="squared_error l2_loss", torch="mse_loss"),
    Feature("absolute error", "absolute_error", torch="l1_loss"),
    Feature("Huber", "huber_loss", optax="huber_loss", torch="huber_loss smooth_l1_loss"),
    Feature("rules taken off for forward mode", "autodiff"),
)

# What we leave out, and why: (reason, {peer: names}).
LEFT_OUT: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "attention, embeddings, recurrence: other nets' ops, well served by their libraries",
        {
            "jax": "dot_product_attention one_hot",
            "Flax": "MultiHeadAttention MultiHeadDotProductAttention SelfAttention dot_product_attention "
            "dot_product_attention_weights make_attention_mask make_causal_mask combine_masks Embed attention one_hot "
            "RNN RNNCellBase LSTMCell OptimizedLSTMCell GRUCell MGUCell SimpleCell ConvLSTMCell Bidirectional",
            "Equinox": "MultiheadAttention Embedding GRUCell LSTMCell RotaryPositionalEmbedding",
            "Haiku": "MultiHeadAttention Embed EmbedLookupStyle GRU LSTM LSTMState VanillaRNN DeepRNN RNNCore "
            "ResetCore IdentityCore Conv1DLSTM Conv2DLSTM Conv3DLSTM deep_rnn_with_skip_connections dynamic_unroll "
            "static_unroll one_hot",
            "torch": "scaled_dot_product_attention multi_head_attention_forward embedding embedding_bag one_hot",
        },
    ),
    (
        "products of narrow integers and 8-bit floats: not differentiated in a convnet",
        {
            "jax": "scaled_matmul scaled_dot_general get_scaled_dot_general_config",
            "Flax": "Fp8DirectDotGeneralOp Fp8DotGeneral Fp8DotGeneralOp Fp8Einsum NANOOFp8DotGeneralOp",
            "torch": "grouped_mm scaled_grouped_mm scaled_mm",
        },
    ),
    (
        "resampling: jax.image.resize and jax.scipy.ndimage.map_coordinates do it",
        {"torch": "interpolate upsample upsample_bilinear upsample_nearest grid_sample affine_grid"},
    ),
    (
        "losses that optax has and that work on our outputs as they are",
        {
            "optax": "binary_dice_loss convex_kl_divergence cosine_distance cosine_similarity ctc_loss "
            "ctc_loss_with_forward_probs dice_loss generalized_kl_divergence hinge_loss kl_divergence "
            "kl_divergence_with_log_targets log_cosh make_fenchel_young_loss multiclass_generalized_dice_loss "
            "multiclass_hinge_loss multiclass_perceptron_loss multiclass_sparsemax_loss ntxent perceptron_loss "
            "poly_loss_cross_entropy ranking_softmax_loss sigmoid_focal_loss sparsemax_loss triplet_margin_loss",
            "torch": "cosine_embedding_loss cosine_similarity ctc_loss gaussian_nll_loss hinge_embedding_loss kl_div "
            "linear_cross_entropy margin_ranking_loss multi_margin_loss multilabel_margin_loss "
            "multilabel_soft_margin_loss pairwise_distance pdist poisson_nll_loss soft_margin_loss triplet_margin_loss "
            "triplet_margin_with_distance_loss",
        },
    ),
    (
        "out of use in today's convnets: local response normalisation, random slopes, fractional pooling, the dropout "
        "of self-normalising nets, unshared kernels, bilinear layers, the indices of adaptive max pooling",
        {
            "Flax": "ConvLocal",
            "torch": "local_response_norm rrelu rrelu_ fractional_max_pool2d fractional_max_pool2d_with_indices "
            "fractional_max_pool3d fractional_max_pool3d_with_indices alpha_dropout feature_alpha_dropout bilinear "
            "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices",
        },
    ),
    (
        "one line of jax.numpy",
        {
            "torch": "channel_shuffle native_channel_shuffle normalize",
            "Flax": "DenseGeneral Einsum",
            "Haiku": "Reshape Bias multinomial expand_apply get_channel_index",
            "Equinox": "Lambda",
        },
    ),
    (
        "parametrisations of weights: functions of the parameters, before the op",
        {
            "Flax": "SpectralNorm WeightNorm",
            "Equinox": "SpectralNorm WeightNorm",
            "Haiku": "SpectralNorm SNParamsTree ExponentialMovingAverage EMAParamsTree",
        },
    ),
    (
        "composition: serial, residual and their like in jaxconv.layers",
        {"Flax": "Sequential", "Equinox": "Sequential MLP StatefulLayer", "Haiku": "Sequential BatchApply"},
    ),
)
# Flax's and Haiku's modules export the framework itself beside the layers. What is not written here is a layer.
FRAMEWORK = {
    "Flax": "BatchApply DenyList FrozenDict LogicallyPartitioned Module Partitioned Variable add_metadata_axis apply "
    "batch_apply broadcast checkpoint combinators compact compact_name_scope cond custom_vjp disable_named_call dtypes "
    "enable_named_call fold_rngs fp8_ops get_logical_axis_rules get_partition_spec get_sharding grad init "
    "init_with_output initializers intercept_methods jit jvp kw_only_dataclasses linear logical_axis_rules "
    "logical_to_mesh logical_to_mesh_axes logical_to_mesh_sharding map_variables merge_param meta module named_call "
    "normalization normalize nowrap ones ones_init override_named_call pooling recurrent remat remat_scan scan "
    "set_logical_axis_rules share_scope spmd stochastic summary switch tabulate transforms unbox value_and_grad vjp "
    "vmap while_loop with_logical_constraint with_logical_partitioning with_partitioning zeros zeros_init activation",
    "Equinox": "Shared State StateIndex delete_init_state inference_mode make_with_state",
    "Haiku": "Deferred GetterContext LayerStackTransparencyMapping LiftWithStateUpdater MethodContext Module "
    "ModuleProtocol MultiTransformed MultiTransformedWithState MutableParams MutableState PRNGSequence Params "
    "SetterContext State SupportsCall Transformed TransformedWithState cond config current_name custom_creator "
    "custom_getter custom_setter data_structures eval_shape experimental force_name fori_loop get_current_state "
    "get_initial_state get_parameter get_params get_state grad initializers intercept_methods layer_stack lift "
    "lift_with_state map maybe_get_rng_sequence_state maybe_next_rng_key mixed_precision multi_transform "
    "multi_transform_with_state name_like name_scope nets next_rng_key next_rng_keys remat replace_rng_sequence_state "
    "reserve_rng_keys running_init scan set_state switch testing to_dot to_module transform transform_with_state "
    "transparent transparent_lift transparent_lift_with_state value_and_grad vmap while_loop with_empty_state with_rng "
    "without_apply_rng without_state",
    "jax": "initializers",
    "torch": "assert_int_or_pair boolean_dispatch handle_torch_function has_torch_function has_torch_function_unary "
    "has_torch_function_variadic",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The features of jaxconv beside those of jax, optax, Flax, Equinox, Haiku and PyTorch."""

    markdown: bool = False
    """Print the table as Markdown."""


def modules_of(peer: str) -> dict[str, object]:
    """The peer's modules that are installed."""
    found = {}
    for name in PEERS[peer]:
        try:
            found[name] = importlib.import_module(name)
        except ImportError:
            continue
    return found


def mistakes() -> list[str]:
    """Names that nothing accounts for, and names in the tables that do not exist where they should."""
    found = [
        f"jaxconv.{name}, in the row {feature.name!r}, does not exist"
        for feature in FEATURES
        for name in feature.ours.split()
        if not hasattr(jaxconv, name)
    ]
    rows = {name for feature in FEATURES for name in feature.ours.split()}
    found += [f"jaxconv.{name} is in no row" for name in jaxconv.__all__ if name not in rows]
    for peer in PEERS:
        claimed = {name for feature in FEATURES for name in feature.theirs(peer)}
        for names in (*(left.get(peer, "") for _, left in LEFT_OUT), FRAMEWORK.get(peer, "")):
            claimed |= set(names.split())
        for name, module in modules_of(peer).items():
            if name in WHOLE:
                found += [f"{name}.{public} is in no row and has no reason" for public in _public(module) - claimed]
    return sorted(found)


def _public(module) -> set[str]:
    """The names that a module offers: no constants, and no types that annotations brought in."""
    torch = module.__name__.startswith("torch")
    return {
        name
        for name in dir(module)
        if not name.startswith("_") and callable(getattr(module, name)) and not (torch and name[0].isupper())
    }


def cell(feature: Feature, peer: str) -> str:
    """What the table says of a peer: yes, no, or that it is not installed and was not looked into."""
    names = feature.theirs(peer)
    if not names:
        return "–"
    if feature.by_hand:
        return "yes †"
    modules = modules_of(peer).values()
    if not modules:
        return "yes (not installed)"
    return "yes" if any(hasattr(module, name) for name in names for module in modules) else "not in this version"


def main(settings: Settings) -> None:
    """Prints the table, the reasons and the mistakes."""
    header = ["feature", "jaxconv", *PEERS]
    rows = [[f.name, ", ".join(f.ours.split()), *(cell(f, peer) for peer in PEERS)] for f in FEATURES]
    if settings.markdown:
        print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
        for row in rows:
            print("| " + " | ".join(row) + " |")
        print("\n† an option, known and not inspected.\n")
        for reason, _ in LEFT_OUT:
            print(f"- {reason}")
    else:
        table = rich.table.Table(*header, caption="† an option, known and not inspected")
        for row in rows:
            table.add_row(*row)
        rich.print(table)
        for reason, left in LEFT_OUT:
            names = "; ".join(f"{peer}: {names}" for peer, names in left.items())
            rich.print(f"[bold]left out[/bold] {reason} ({names})")
    found = mistakes()
    for mistake in found:
        print(mistake)
    sys.exit(bool(found))


if __name__ == "__main__":
    main(tyro.cli(Settings))
