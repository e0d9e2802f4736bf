"""The machine's peak: operations a second of torch's fastest large matrix product in f32 and in bf16."""

import time

import torch

from peer import tell

SIZES = [(1024, 1024, 1024), (2048, 2048, 2048), (1024, 4096, 4096), (4096, 4096, 4096)]
SECONDS = 0.5


def fastest(dtype):
    """The best of all sizes and repetitions: what the machine can do, not what it does on average."""
    best = 0.0
    for m, k, n in SIZES:
        a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
        until = time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            started = time.perf_counter()
            a @ b
            best = max(best, 2 * m * k * n / (time.perf_counter() - started))
    return best


def main():
    threads = torch.get_num_threads()
    tell("peak", f32=fastest(torch.float32), bf16=fastest(torch.bfloat16), threads=threads)


main()
