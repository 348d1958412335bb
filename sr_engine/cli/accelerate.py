"""`sr-engine accelerate`: what the drop-in replacement does to a model file, layer by layer, and what it brings."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

HELP = "show what fused attention brings to somebody else's model: layers swapped, parity, time, memory"
SIZES = ((64, 64), (72, 88))
RUNS = 5
PRECISIONS = ("fp32", "bf16", "fp16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument(
        "--model", required=True, metavar="FILE", help="a model file of any network that spandrel knows"
    )
    sizes = " and ".join(f"{height} {width}" for height, width in SIZES)
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help=f"of the picture to time, in pixels ({sizes})"
    )
    parser.add_argument("--precision", default="fp32", metavar="|".join(PRECISIONS), help="of both networks (fp32)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="(auto)")


def run(args: argparse.Namespace) -> int:
    """Swap, compare, time; 0 = at least one layer was swapped, 1 = none."""
    import copy

    from sr_engine.device import check_precision, pick_device
    from sr_engine.dropin import accelerate
    from sr_engine.errors import EngineError
    from sr_engine.models.files import find_model, load_model
    from sr_engine.models.onnx_network import is_onnx

    if args.size is not None and min(args.size) < 1:
        raise EngineError(f"--size {args.size[0]} {args.size[1]}: expected two numbers of pixels, each at least 1.")
    check_precision(args.precision, PRECISIONS)
    device = pick_device(args.device)
    if is_onnx(source := find_model(args.model)):
        raise EngineError(f"{source}: an ONNX file has no layers to swap: give the model file it was made from.")
    network = load_model(source, device=device)
    original = copy.deepcopy(network)
    network, report = accelerate(network)
    print(report)
    if not report.swapped:
        return 1
    print(f"\n{device}, {args.precision}, batch 1; the two networks in turns, median of {RUNS}")
    print("size       time before    after   ratio   memory before    after   ratio   difference")
    for height, width in [args.size] if args.size is not None else SIZES:
        print(
            f"{f'{height}x{width}':9}  {_row(original, network, (height, width), args.precision, device)}", flush=True
        )
    return 0


def _row(
    original: "nn.Module", fused: "nn.Module", size: tuple[int, int], precision: str, device: "torch.device"
) -> str:
    import torch

    from sr_engine.infer.measure import costs, relative_difference

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    channels = getattr(getattr(original, "spec", None), "channels", 3)
    x = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    networks = [network.to(dtype) for network in (original, fused)]
    with torch.inference_mode():
        try:
            expected = networks[0](x)
        except RuntimeError as error:
            alone = costs([lambda: networks[1](x)], device, repeats=RUNS)[0]
            return (
                f"the original fails ({str(error).splitlines()[0]}); "
                f"now {alone.seconds * 1e3:.0f} ms, {alone.peak_bytes / 2**20:.1f} MB"
            )
        difference = relative_difference(expected.float(), networks[1](x).float())
        before, after = costs([lambda net=net: net(x) for net in networks], device, repeats=RUNS)
    return (
        f"{before.seconds * 1e3:8.1f} ms {after.seconds * 1e3:5.1f} ms  {before.seconds / after.seconds:5.2f}x  "
        f"{before.peak_bytes / 2**20:10.1f} MB {after.peak_bytes / 2**20:5.1f} MB  "
        f"{before.peak_bytes / after.peak_bytes:5.2f}x   {difference:.1e}"
    )
