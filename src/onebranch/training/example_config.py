"""The example config that `onebranch new-config` prints; the tests read it with the strict reader."""

NETWORKS = {
    "upscale": """\
task = "upscale"          # upscale, downscale or denoise
scale = 2                 # 2, 3 or 4
colour = "y"              # "y": luma through the network, chroma bicubic; "rgb": three channels
width = 16                # channels of every block
depth = 4                 # blocks between head and tail
branches = "sesr"         # a preset (plain, patent, acnet, repvgg, dbb, ecb, repsr, sesr, conv3xc,
                          # mobileone) or a list of branches such as ["3x3*2 1x1", "1x1 3x3", "identity"]
activation = "prelu"      # prelu, relu, leaky_relu, silu, gelu or none
residual = "nearest"      # none, nearest or bicubic: the resized input is added to the output
skips = []                # for example [{ source = 0, target = 4, join = "add" }] (or "concatenate")
""",
    "downscale": """\
task = "downscale"        # upscale, downscale or denoise
scale = 2                 # 2, 3 or 4: to a half, a third, a quarter
colour = "y"              # "y": luma through the network, chroma bicubic; "rgb": three channels
width = 16                # channels of every block
depth = 3                 # blocks between head and tail
branches = "sesr"         # a preset, or a list of branches such as ["3x3*2 1x1", "identity"]
activation = "prelu"      # prelu, relu, leaky_relu, silu, gelu or none
downsampling = "convolution"   # convolution, average or unshuffle: the layer after the tail
residual = "bicubic"      # none, nearest or bicubic: the resized input is added to the output
skips = []                # for example [{ source = 0, target = 3, join = "add" }]
""",
    "denoise": """\
task = "denoise"          # upscale, downscale or denoise
colour = "rgb"            # "rgb": three channels; "y": luma only, chroma left as it is
width = 32                # channels of every block
depth = 4                 # blocks between head and tail
branches = "sesr"         # a preset, or a list of branches such as ["3x3*2 1x1", "identity"]
activation = "prelu"      # prelu, relu, leaky_relu, silu, gelu or none
residual = "nearest"      # none, or nearest: the input is added to the output
skips = []                # for example [{ source = 0, target = 4, join = "add" }]
""",
}

DEGRADATION = (
    "# degradation = {}        # random blur, noise and compression for photographs as people have them"
)

DATA = {
    "upscale": "patch_size = 32           # side of a crop in low-quality pixels\n" + DEGRADATION,
    "downscale": "patch_size = 32           # side of a crop in reduced pixels",
    "denoise": "patch_size = 48           # side of a crop in pixels\n"
    "sigma = [0.0, 50.0]       # noise levels in 8-bit grey levels, one drawn for every crop\n" + DEGRADATION,
}

RESTORER = """\
# restorer = "photo-x2"   # an upscaler (name or file): the result, rounded to 8 bits and enlarged by it,
                          # is compared with the original ...
# restorer_learns = false # whether the restorer is trained as well (written as NAME-restorer.safetensors)
# restorer_weight = 1.0   # ... with this weight,
# picture_weight = 1.0    # beside this weight of the difference to the bicubic reduction
"""

TEMPLATE = """\
# A training config for onebranch. Run it with: onebranch train THIS_FILE
name = "my-{task}"
seed = 0

[network]
{network}
[data]
train = "pictures/train"            # a folder of pictures, searched recursively
# low_quality = "pictures/train-lq" # the low-quality partners; left out: made by the task
# low_quality_suffix = "x2" # behind a partner's name (0001x2.png); left out: found among the usual ones
validation = "pictures/validation"  # leave out to train without validation
validation_pictures = 16            # how many of them are scored
{data}
on_error = "stop"         # stop at pictures that cannot be read, or skip them
augment = true            # flips and turns
cache = ".cache/onebranch"          # decoded pictures, made once (relative to where you run it)

[training]
steps = 150_000           # or, instead, pixels = "2.5G": low-resolution pixels of the run
batch_size = 16           # crops per step, over all processes
optimizer = "adam"        # adam, muon (for the kernels, Adam for the rest) or sgd
learning_rate = 2e-3
warmup_steps = 200        # linear warm-up, then a cosine to final_learning_rate
final_learning_rate = 0.0
loss = "l1"               # l1, charbonnier or mse
loss_border = 0           # input pixels at each side of a crop that the loss leaves out
grad_clip_norm = 1.0      # largest norm of the gradient; 0: no clipping
ema_decay = 0.999         # decay of the averaged (EMA) weights, which are what is saved
bn_freeze_fraction = 0.2  # last fraction of the steps with BN frozen to population statistics
forward = "auto"          # branches, merged, or auto: merged as soon as it is defined
prelu = "auto"            # native, relu, masked, or auto: the fastest here
compile = "auto"          # always, never, or auto: steps of long runs on the CPU, by torch.compile
precision = "float32"     # float32, bfloat16 (for the blocks) or float64
device = "auto"           # auto, cpu or cuda
threads = "auto"          # a number, or auto: found by timing a few steps
workers = "auto"          # processes that prepare crops; auto: none on the CPU, most cores for a GPU
validate_every = 2000
checkpoint_every = 2000
# stages = [{{ start_fraction = 0.8, loss = "mse", batch_size = 32 }}]   # a last part with other settings
# teacher = "photo-x2-large"        # a model whose results are learnt as well ...
# teacher_weight = 1.0              # ... with this weight,
# teacher_features_weight = 0.0     # and the attention of its last features with this one
# init_from = "model.safetensors"   # fine-tune; a network of another scale gets a fresh tail
# quantization_aware = false        # round to 8 bits in every step, with the scales of init_from
{restorer}"""


def example(task: str) -> str:
    """The text of a config for a task."""
    restorer = RESTORER if task == "downscale" else ""
    return TEMPLATE.format(task=task, network=NETWORKS[task], data=DATA[task], restorer=restorer)
