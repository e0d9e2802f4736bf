// Products of one f32 row with a weight in few bits, which is read as its codes and widened on the way.
#include "common.cuh"

#define ROWS 4  // rows of the weight that a warp has, so that what it reads of x serves them all

// Sums of the rows from `first` on to y, over a warp.
__device__ __forceinline__ void finish(float sums[ROWS], int first, int out, float scale, float *y, const float *add) {
    for (int r = 0; r < ROWS; r++) {
        float sum = warp_sum(sums[r]) * scale;
        int row = first + r;
        if (threadIdx.x % 32 == 0 && row < out) y[row] = sum + (add ? add[row] : 0.0f);
    }
}

// Rows are a multiple of eight long, and a block of values that share a scale is `1 << shift`; see `four_bits` for the scales.
extern "C" __global__ void four_bits_times_vector(const float *x, const uint8_t *packed, const float *book,
                                                  const float *scales, const uint8_t *codes, const float *map,
                                                  float offset, int shift, float *y, const float *add, int inputs,
                                                  int out, float scale) {
    __shared__ float known[16];
    if (threadIdx.x < 16) known[threadIdx.x] = book[threadIdx.x];
    __syncthreads();
    int lane = threadIdx.x % 32, first = ROWS * (blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
    if (first >= out) return;
    float sums[ROWS] = {};
    for (int at = 8 * lane; at < inputs; at += 8 * 32) {
        float4 low = *(const float4 *)(x + at), high = *(const float4 *)(x + at + 4);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (first + r >= out) break;
            i64 place = (i64)(first + r) * inputs + at, in = place >> shift;
            // The first of two values is in the high half of a byte.
            uint32_t word = *(const uint32_t *)(packed + place / 2);
            float own = codes ? map[codes[in]] * scales[in / 256] + offset : scales[in];
            float sum = known[word >> 4 & 15] * low.x + known[word & 15] * low.y;
            sum += known[word >> 12 & 15] * low.z + known[word >> 8 & 15] * low.w;
            sum += known[word >> 20 & 15] * high.x + known[word >> 16 & 15] * high.y;
            sum += known[word >> 28] * high.z + known[word >> 24 & 15] * high.w;
            sums[r] += sum * own;
        }
    }
    finish(sums, first, out, scale, y, add);
}

// Rows are a multiple of eight long, and each has a scale.
extern "C" __global__ void eight_bits_times_vector(const float *x, const int8_t *packed, const float *scales, float *y,
                                                   const float *add, int inputs, int out, float scale) {
    int lane = threadIdx.x % 32, first = ROWS * (blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
    if (first >= out) return;
    float sums[ROWS] = {};
    for (int at = 8 * lane; at < inputs; at += 8 * 32) {
        float4 low = *(const float4 *)(x + at), high = *(const float4 *)(x + at + 4);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (first + r >= out) break;
            uint2 both = *(const uint2 *)(packed + (i64)(first + r) * inputs + at);
            const int8_t *v = (const int8_t *)&both;
            sums[r] += v[0] * low.x + v[1] * low.y + v[2] * low.z + v[3] * low.w;
            sums[r] += v[4] * high.x + v[5] * high.y + v[6] * high.z + v[7] * high.w;
        }
    }
    for (int r = 0; r < ROWS; r++) {
        if (first + r < out) sums[r] *= scales[first + r] / 127.0f;
    }
    finish(sums, first, out, scale, y, add);
}
