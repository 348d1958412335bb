"""`sr-engine export`: a model as an ONNX file or an archive of torch.export, for programs that are not this one."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sr_engine.export import Exported

HELP = "write a model as an ONNX file or a .pt2 of torch.export"
SUFFIXES = (".onnx", ".pt2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; imports nothing heavy."""
    parser.add_argument(
        "--model", required=True, metavar="NAME|PATH", help="model file, run folder or name; another project's file"
    )
    parser.add_argument("-o", "--out", required=True, metavar="FILE.onnx|FILE.pt2", help="the file to write")
    parser.add_argument(
        "--precision", default="fp32", metavar="fp32|fp16", help="of weights and arithmetic; pictures stay fp32 (fp32)"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX, 18 to 25 (20)")
    parser.add_argument(
        "--verify", action="store_true", help="run the file beside torch at ten sizes, and write it only if they agree"
    )
    parser.add_argument(
        "--no-accelerate",
        dest="accelerate",
        action="store_false",
        help="write the attention layers of another project's network as they are, not swapped for equal ones of ours",
    )


def run(args: argparse.Namespace) -> int:
    """Export, and say what is in the file; 0 = done."""
    from sr_engine.atomic import check_target
    from sr_engine.errors import ExportError
    from sr_engine.export import export_onnx, export_pt2
    from sr_engine.models.files import find_model, load_model
    from sr_engine.models.onnx_network import is_onnx

    target = check_target(args.out, SUFFIXES)
    archive = target.suffix.lower() == ".pt2"
    if archive and args.opset is not None:
        raise ExportError("--opset is a number of ONNX, and a .pt2 has none: leave it out, or name a file .onnx.")
    if is_onnx(source := find_model(args.model)):
        raise ExportError(f"{source}: is an ONNX file already: export the model file it was made from.")
    net = load_model(source)
    settings = {"precision": args.precision, "accelerate": args.accelerate, "verify": args.verify}
    if archive:
        exported = export_pt2(net, target, **settings)
    else:
        exported = export_onnx(net, target, **settings, **({} if args.opset is None else {"opset": args.opset}))
    _print(exported, args.model)
    return 0


def _print(exported: "Exported", model: str) -> None:
    from sr_engine.export import BOUNDS

    if exported.checks:
        print("pictures  size     largest difference from torch")
        for check in exported.checks:
            print(f"{check.batch:8}  {f'{check.height}x{check.width}':7}  {check.largest:.1e}")
        print(f"allowed: {BOUNDS[exported.precision]:.0e}\n")
    kind = ".pt2" if exported.opset is None else f"ONNX opset {exported.opset}"
    megabytes = exported.path.stat().st_size / 1e6
    print(f"{model} -> {exported.path}  {kind}, {exported.precision}, {exported.nodes} operators, {megabytes:.2f} MB")
