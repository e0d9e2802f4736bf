// The loss from logits, the optimizer, and codes of few bits made numbers.
#include "common.cuh"

// One block a row of f32 logits: its loss −log softmax(logits)[target], and the gradient (softmax − onehot) · factor to `gradient`
// where there is one.
template <typename T>
__device__ void cross_entropy(const float *logits, const uint32_t *targets, float *losses, T *gradient, int vocab,
                              float factor) {
    const float *row = logits + (i64)blockIdx.x * vocab;
    uint32_t target = targets[blockIdx.x];
    float most = -INFINITY;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) most = fmaxf(most, row[i]);
    most = block_max(most);
    float sum = 0;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) sum += __expf(row[i] - most);
    sum = block_sum(sum);
    if (threadIdx.x == 0) losses[blockIdx.x] = (most - row[target]) + logf(sum);
    if (!gradient) return;
    T *to = gradient + (i64)blockIdx.x * vocab;
    float inverse = 1.0f / sum;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        to[i] = narrow<T>((__expf(row[i] - most) * inverse - (i == target ? 1.0f : 0.0f)) * factor);
    }
}
EACH(cross_entropy,
     (const float *logits, const uint32_t *targets, float *losses, void *gradient, int vocab, float factor),
     cross_entropy(logits, targets, losses, (T *)gradient, vocab, factor))

// Rows `rows[i]` of f32 x, gathered and rounded. One block a row.
template <typename T> __device__ void gather(const float *x, const uint32_t *rows, T *y, int width) {
    const float *from = x + (i64)rows[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) y[(i64)blockIdx.x * width + i] = narrow<T>(from[i]);
}
EACH(gather, (const float *x, const uint32_t *rows, void *y, int width), gather(x, rows, (T *)y, width))

extern "C" __global__ void scatter(const float *x, const uint32_t *rows, float *y, int width) {
    float *to = y + (i64)rows[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = x[(i64)blockIdx.x * width + i];
}

// Several tensors: where each lies, and where it ends among all.
struct Parts {
    uint64_t at[14];
    int64_t end[14];
};

__device__ __forceinline__ float *place(const Parts &parts, i64 i) {
    int part = 0;
    while (i >= parts.end[part]) part++;
    return (float *)parts.at[part] + (i - (part ? parts.end[part - 1] : 0));
}

// All of them one after the other.
template <typename T> __device__ void join(const Parts &parts, T *to, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] = narrow<T>(*place(parts, i));
}
EACH(join, (const Parts parts, void *to, i64 count), join(parts, (T *)to, count))

// To each what is its own.
extern "C" __global__ void add_parts(const float *x, const Parts parts, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) *place(parts, i) += x[i];
}

// y += x
extern "C" __global__ void add_to(const float *x, float *y, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] += x[i];
}

// The sum of all, in one block, in f64: always in the same order.
extern "C" __global__ void sum_all(const float *x, float *y, i64 count, int squared) {
    __shared__ double parts[1024];
    double sum = 0;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) sum += squared ? (double)x[i] * x[i] : (double)x[i];
    parts[threadIdx.x] = sum;
    __syncthreads();
    for (int step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) *y = (float)parts[0];
}

// Sums of squares of parts of many numbers, one block a part, in f64.
extern "C" __global__ void sum_of_squares(const float *x, double *parts_of, i64 count, i64 part) {
    __shared__ double parts[256];
    i64 from = blockIdx.x * part, to = from + part < count ? from + part : count;
    double sum = 0;
    for (i64 i = from + threadIdx.x; i < to; i += blockDim.x) sum += (double)x[i] * x[i];
    parts[threadIdx.x] = sum;
    __syncthreads();
    for (int step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) parts_of[blockIdx.x] = parts[0];
}

extern "C" __global__ void multiply_by(float *x, float factor, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] *= factor;
}

// AdamW with decoupled weight decay, torch's formula; `bad` is set where a new weight is not finite.
extern "C" __global__ void adamw(float *w, const float *gradient, float *m, float *v, uint32_t *bad, float decay,
                                 float step_size, float root_correction, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float new_mean = 1.0 - 0.9, old_square = 0.999, new_square = 1.0 - 0.999;
    float g = gradient[i];
    float mean = m[i] + new_mean * (g - m[i]);
    float square = v[i] * old_square + new_square * g * g;
    float weight = w[i] * decay - step_size * (mean / (sqrtf(square) / root_correction + 1e-8f));
    m[i] = mean, v[i] = square, w[i] = weight;
    if (!isfinite(weight)) *bad = 1;
}

// Eight values of four bits a thread, of one block: `book` holds what codes stand for. Scales are f32, or codes of a map with scales of
// their own. A block is of `1 << shift` values.
template <typename T>
__device__ void four_bits(const uint8_t *packed, const float *book, const float *scales, const uint8_t *codes,
                          const float *map, float offset, int shift, T *y, i64 count) {
    __shared__ float known[16];
    if (threadIdx.x < 16) known[threadIdx.x] = book[threadIdx.x];
    __syncthreads();
    i64 at = 8 * ((i64)blockIdx.x * blockDim.x + threadIdx.x);
    if (at >= count) return;
    i64 in = at >> shift;
    float scale = codes ? map[codes[in]] * scales[in / 256] + offset : scales[in];
    __align__(16) T values[8];
    int valid = count - at < 8 ? count - at : 8;
    for (int i = 0; i < 8; i += 2) {
        if (i >= valid) break;
        uint8_t byte = packed[(at + i) / 2];
        values[i] = narrow<T>(known[byte >> 4] * scale);
        values[i + 1] = narrow<T>(known[byte & 15] * scale);
    }
    if (valid == 8) {
        for (int i = 0; i < sizeof(values) / 16; i++) ((uint4 *)(y + at))[i] = ((uint4 *)values)[i];
    } else {
        for (int i = 0; i < valid; i++) y[at + i] = values[i];
    }
}
EACH(four_bits,
     (const uint8_t *packed, const float *book, const float *scales, const uint8_t *codes, const float *map, float offset,
      int shift, void *y, i64 count),
     four_bits(packed, book, scales, codes, map, offset, shift, (T *)y, count))

template <typename T>
__device__ void eight_bits(const int8_t *packed, const float *scales, int block, T *y, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = narrow<T>((float)packed[i] * (scales[i / block] / 127.0f));
}
EACH(eight_bits, (const uint8_t *packed, const float *scales, int block, void *y, i64 count),
     eight_bits((const int8_t *)packed, scales, block, (T *)y, count))
