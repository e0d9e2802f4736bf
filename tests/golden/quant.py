"""What bitsandbytes makes of blocks of numbers, its 8-bit AdamW, and a tiny model that it has quantised."""

import json
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import bitsandbytes.functional as functional

BASE = "llama-tied-gqa"
# The portable code, which gives what the GPU kernels give. The library for CPUs looks 8-bit codes up by the first 16 bits of a value
# and makes 2e-5 of zero. The key is that of a device that bitsandbytes has no own code for.
PORTABLE = "XLA"


def portable(name):
    """An operation of bitsandbytes in its portable form."""
    kernel = torch.library.get_kernel(getattr(torch.ops.bitsandbytes, name).default, PORTABLE)
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
    return lambda *arguments: kernel.call_boxed(keys, *arguments)


def inputs():
    """Matrices by name: random ones, and such as are hard."""
    random = torch.Generator().manual_seed(7)
    normal = lambda *shape: torch.randn(*shape, generator=random)
    nf4, fp4 = (functional.get_4bit_type(kind, device="cpu") for kind in ("nf4", "fp4"))

    def middles(book):
        """What lies half way between two codes, to the bit, and the numbers next to it; each block's scale is 1."""
        book = book.sort().values
        middle = (book[:-1] + book[1:]) / 2
        values = torch.cat([middle, torch.nextafter(middle, torch.tensor(9.0)), torch.nextafter(middle, torch.tensor(-9.0))])
        return torch.cat([values, torch.ones(64 - len(values))]).reshape(1, 64)

    huge = normal(4, 64)
    huge[1, 5], huge[2, 60], huge[3, 0] = 3e38, -1e20, 65504
    outlier = normal(170, 128) * 0.02
    outlier[:, 7] *= 40
    return {
        "normal": normal(24, 96),
        "uneven": normal(7, 33),
        "single": torch.tensor([[0.25]]),
        "zeros": torch.zeros(2, 64),
        "some zeros": torch.cat([torch.zeros(1, 64), normal(1, 64), torch.zeros(1, 32), normal(1, 32)], 1),
        "huge": huge,
        "denormal": normal(2, 64) * 1e-40,
        "small": normal(2, 64) * 1e-38,
        "middles of nf4": middles(nf4),
        "middles of fp4": middles(fp4),
        "halves of int8": (torch.arange(-127, 128).float() / 2).clamp(-63, 63).reshape(1, 255) / 63.5 * 127,
        "outliers": outlier,
    }


def four_bits(values, kind):
    """Codes and scales of a matrix, then the scales' own."""
    packed, scales = portable("quantize_4bit")(values, 64, kind, torch.uint8)
    offset = scales.mean()
    codes, again = portable("quantize_blockwise")(scales - offset, functional.create_dynamic_map(), 256)
    parts = {
        "packed": packed.flatten(),
        "scales": scales,
        "nested_codes": codes,
        "nested_scales": again,
        "offset": offset.reshape(1),
    }
    if values.numel() < 4096:
        parts["values"] = portable("dequantize_4bit")(packed, scales, 64, kind, values.shape, torch.float32)
    return parts


def adamw():
    """Six steps of 8-bit AdamW: gradients, and the state and weights after each second step."""
    random = torch.Generator().manual_seed(8)
    count = 4300
    maps = functional.create_dynamic_map(signed=True), functional.create_dynamic_map(signed=False)
    encode, decode = portable("quantize_blockwise"), portable("dequantize_blockwise")
    weights = torch.randn(count, generator=random) * 0.05
    states = [torch.zeros(count, dtype=torch.uint8) for _ in maps]
    scales = [torch.zeros(-(-count // 256)) for _ in maps]
    tensors = {"weights": weights.clone()}
    beta1, beta2, eps, rate, decay = 0.9, 0.999, 1e-8, 1e-3, 0.01
    for step in range(1, 7):
        gradient = torch.randn(count, generator=random) * torch.linspace(1e-4, 1, count)
        gradient[:256] *= step % 2
        tensors[f"gradient.{step}"] = gradient.clone()
        mean, square = (decode(s, a, m, 256, torch.float32) for s, a, m in zip(states, scales, maps))
        mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = (square.sqrt() / (1 - beta2**step) ** 0.5).add_(eps)
        weights.mul_(1 - rate * decay).addcdiv_(mean, denominator, value=-rate / (1 - beta1**step))
        for i, values in enumerate((mean, square)):
            states[i], scales[i] = encode(values, maps[i], 256)
        # The GPU kernel's last touch: a mean keeps its sign.
        wrong = maps[0][states[0].long()].signbit() != mean.signbit()
        states[0] = (states[0].long() + wrong * torch.where(mean > 0, 1, -1)).clamp(0, 255).to(torch.uint8)
        if step % 2 == 0:
            for name, tensor in zip(("mean", "square"), states):
                tensors[f"{name}.{step}"] = tensor.clone()
            for name, tensor in zip(("mean_scale", "square_scale"), scales):
                tensors[f"{name}.{step}"] = tensor.clone()
            tensors[f"weights.{step}"] = weights.clone()
    return tensors


def make_models(base, out):
    """The tiny model of `base` as bitsandbytes saves it in each way, with the logits of the last tokens in f32."""
    four = {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.float32}
    ways = {
        "nf4": BitsAndBytesConfig(bnb_4bit_quant_type="nf4", **four),
        "nf4-nested": BitsAndBytesConfig(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, **four),
        "fp4": BitsAndBytesConfig(bnb_4bit_quant_type="fp4", **four),
        "int8": BitsAndBytesConfig(load_in_8bit=True),
    }
    ids = torch.arange(3, 35).reshape(1, -1)
    for name, way in ways.items():
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        model = AutoModelForCausalLM.from_pretrained(base, quantization_config=way, dtype=torch.float32, device_map="cpu")
        model.save_pretrained(folder)
        for module in list(model.modules()):
            for key, child in list(module.named_children()):
                weight = getattr(child, "weight", None)
                if isinstance(weight, torch.nn.Parameter) and weight.dtype in (torch.uint8, torch.int8):
                    setattr(module, key, plain(child))
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -8:]
        save_file({"ids": ids[0].int(), "logits": logits.contiguous()}, folder / "golden.safetensors")


def plain(linear):
    """A linear layer with the values that its codes stand for."""
    weight = linear.weight
    if weight.dtype == torch.int8:
        scales = weight.SCB if getattr(weight, "SCB", None) is not None else linear.state.SCB
        values = weight.data.float() * (scales / 127).reshape(-1, 1)
    else:
        state = weight.quant_state
        scales = state.absmax
        if state.nested:
            inner = state.state2
            scales = portable("dequantize_blockwise")(scales, inner.absmax, inner.code, 256, torch.float32) + state.offset
        values = portable("dequantize_4bit")(weight.data, scales, 64, state.quant_type, state.shape, torch.float32)
    made = torch.nn.Linear(values.shape[1], values.shape[0], bias=linear.bias is not None)
    made.weight.data.copy_(values)
    if linear.bias is not None:
        made.bias.data.copy_(linear.bias)
    return made


def make(here, out):
    """All files."""
    out.mkdir(parents=True, exist_ok=True)
    tensors, names = {}, []
    for name, values in inputs().items():
        names.append(name)
        tensors[f"{name}.input"] = values.contiguous()
        for kind in ("nf4", "fp4"):
            tensors.update({f"{name}.{kind}.{key}": part.contiguous() for key, part in four_bits(values, kind).items()})
        codes, scales, _ = portable("int8_vectorwise_quant")(values.clone(), 0.0)
        # Of a row of zeros the library makes 0 · ∞, which is no number; its codes are zero.
        codes[scales == 0] = 0
        # As unsigned bytes: not every reader of safetensors knows signed ones.
        tensors[f"{name}.int8.packed"], tensors[f"{name}.int8.scales"] = codes.view(torch.uint8), scales
    for signed in (True, False):
        tensors[f"map.{'signed' if signed else 'unsigned'}"] = functional.create_dynamic_map(signed=signed)
    save_file(tensors, out / "blocks.safetensors")
    (out / "blocks.json").write_text(json.dumps(names, indent=1) + "\n")
    save_file(adamw(), out / "adamw.safetensors")
    make_models(here / BASE, out)
