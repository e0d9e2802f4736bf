// What all kernels share: numbers of all precisions, sums over warps and blocks.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;
typedef long long i64;

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float wide(f16 x) { return __half2float(x); }
template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }
// What is too large becomes infinite, and is not held back: that is how the loss scale is found to be too large.
template <> __device__ __forceinline__ f16 narrow<f16>(float x) { return __float2half_rn(x); }

// The value as it is after it was stored: what is multiplied in sixteen bits is rounded first.
template <typename T> __device__ __forceinline__ float rounded(float x) { return wide(narrow<T>(x)); }

__device__ __forceinline__ float warp_sum(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// The sum over a block of whole warps, known to every thread. Always in the same order.
__device__ __forceinline__ float block_sum(float x) {
    __shared__ float parts[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_sum(x);
    __syncthreads();
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    float total = 0;
    for (int i = 0; i < warps; i++) total += parts[i];
    return total;
}

__device__ __forceinline__ float block_max(float x) {
    __shared__ float parts[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    float most = parts[0];
    for (int i = 1; i < warps; i++) most = fmaxf(most, parts[i]);
    return most;
}

// Makes a kernel of a template for every precision under names that the host asks for.
#define EACH(name, parameters, call)                                             \
    extern "C" __global__ void name##_f32 parameters { typedef float T; call; } \
    extern "C" __global__ void name##_bf16 parameters { typedef bf16 T; call; } \
    extern "C" __global__ void name##_f16 parameters { typedef f16 T; call; }

// A call with the type `W` that numbers of this kind have; kinds are numbered as the host does.
#define OF_KIND(kind, call)                           \
    {                                                 \
        if (kind == 2) { typedef f16 W; call; }       \
        else if (kind == 1) { typedef bf16 W; call; } \
        else { typedef float W; call; }               \
    }
