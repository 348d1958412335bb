"""`sr-engine prune`: a smaller network without the channels and heads that matter least."""

import argparse
from typing import TYPE_CHECKING

from sr_engine.cli.report_file import write_report

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sr_engine.compress.calibration import Pictures
    from sr_engine.compress.report import PruneReport

HELP = "remove the channels and heads of a model that matter least"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument(
        "--model", required=True, metavar="NAME|PATH", help="model file, run folder or name; SwinIR, Swin2SR, HAT files"
    )
    parser.add_argument(
        "--ratio", required=True, type=float, metavar="R", help="share of the parameters to remove, above 0 to 0.9"
    )
    parser.add_argument("-o", "--out", required=True, metavar="FILE.safetensors", help="file of the pruned model")
    parser.add_argument(
        "--criterion",
        default="taylor",
        metavar="taylor|l1|l2",
        help="what matters: the change of the loss on pictures, or a norm of the weights (taylor)",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder of high-resolution pictures to measure importance on, every fourth held out to judge the result "
        "(the demo photographs, which come with scikit-image)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the report to this file")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="(auto)")


def run(args: argparse.Namespace) -> int:
    """Prune, save, print the report; 0 = done."""
    from sr_engine.atomic import check_target
    from sr_engine.cli.registrations import load_all
    from sr_engine.compress import CompressError, check_criterion, check_ratio, choose, cut_network, importance
    from sr_engine.compress.calibration import crops, pictures
    from sr_engine.compress.groups import spec_of
    from sr_engine.device import pick_device
    from sr_engine.infer.classical import CLASSICAL
    from sr_engine.models.files import find_model, load_model, save_model
    from sr_engine.models.onnx_network import is_onnx

    check_ratio(args.ratio)
    check_criterion(args.criterion)
    check_target(args.out, (".safetensors",))
    if args.json is not None:
        check_target(args.json)
    if args.model in CLASSICAL:
        raise CompressError(f"'{args.model}' is a classical upsampler without weights to remove; name a network.")
    if is_onnx(source := find_model(args.model)):
        raise CompressError(f"{source}: an ONNX file has no channels to remove: give the model file it was made from.")
    load_all()
    net = load_model(source, device=pick_device(args.device), fold=False)
    scale = spec_of(net).scale
    found = pictures(args.data, scale=scale)
    batches = crops(found.measured, scale=scale) if args.criterion == "taylor" else ()
    cut = choose(net, importance(net, batches, args.criterion), args.ratio, criterion=args.criterion)
    smaller = cut_network(net, cut)
    save_model(args.out, smaller)
    sizes = {name: (whole, len(cut.kept[name])) for name, whole in _sizes(net).items()}
    report = _report(args, net, smaller, found, sizes)
    print(f"{args.model} x{scale} -> {args.out}")
    for line in report.lines():
        print(line)
    print(f"get the quality back: {_training(args, net)}")
    if args.json is not None:
        write_report(args.json, report.to_json())
    return 0


def _sizes(net: "nn.Module") -> dict[str, int]:
    from sr_engine.compress import axes

    return {axis.name: axis.size for axis in axes(net)}


def _report(
    args: argparse.Namespace,
    net: "nn.Module",
    smaller: "nn.Module",
    found: "Pictures",
    sizes: dict[str, tuple[int, int]],
) -> "PruneReport":
    from sr_engine.compress.groups import spec_of
    from sr_engine.compress.measure import OUTPUT, inference_copy, latencies, macs
    from sr_engine.compress.report import Cost, PruneReport
    from sr_engine.infer.loading import compute_dtype

    scale = spec_of(net).scale
    both = [inference_copy(one) for one in (net, smaller)]
    device = next(both[0].parameters()).device
    size = (128, 128) if device.type == "cpu" else (OUTPUT[1] // scale, OUTPUT[0] // scale)
    dtype = compute_dtype(both[0], "auto", device)
    times = latencies(both, size, dtype=dtype)
    costs = [
        Cost(spec_of(one).parameters, macs(one, scale), time, _psnr(one, found))
        for one, time in zip(both, times, strict=True)
    ]
    where = f"{size[1]}x{size[0]} input pixels in {str(dtype).removeprefix('torch.')} on {_name(device)}"
    return PruneReport(
        model=args.model,
        file=args.out,
        criterion=args.criterion,
        asked=args.ratio,
        before=costs[0],
        after=costs[1],
        sizes=sizes,
        setting=f"median for {where}",
        pictures=f"mean over what importance was not measured on, pictures: {len(found.held_out)}",
    )


def _psnr(net: "nn.Module", found: "Pictures") -> float:
    from sr_engine.infer.evaluate import evaluate
    from sr_engine.infer.upscaler import Upscaler

    up = Upscaler(net, precision="fp32")
    return evaluate(up, found.held_out, scale=up.scale).mean().psnr_y


def _name(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).name
    return f"a CPU, {torch.get_num_threads()} threads"


def _training(args: argparse.Namespace, net: "nn.Module") -> str:
    """The command that trains the pruned network on, with the whole one as its teacher."""
    from sr_engine.compress.groups import spec_of
    from sr_engine.models.generator import Generator

    words = ["sr-engine train configs/x4_pruned.yml", f"load_from={args.out}", "prune=null"]
    words.append(f"distill.teacher={args.model}")
    if not isinstance(net, Generator):
        words.append("network_g='{type: spandrel}'")
    elif (preset := net.spec.arguments["preset"]) != "tiny":
        words.append(f"network_g.preset={preset}")
    if (scale := spec_of(net).scale) != 4:
        words.append(f"scale={scale}")
    return " ".join(words)
