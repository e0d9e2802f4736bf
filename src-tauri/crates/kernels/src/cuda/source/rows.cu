// Row by row work: norms, gate, dropout, conversions, heads, embeddings. Sums are f32.
#include "common.cuh"

// One block a row: y = w · x / sqrt(mean(x²) + eps). x is f32 or of the precision of y.
template <typename X, typename W, typename T>
__device__ void rms_norm(const X *x, const W *weight, T *y, int width, float eps) {
    x += (i64)blockIdx.x * width;
    y += (i64)blockIdx.x * width;
    float sum = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum += wide(x[i]) * wide(x[i]);
    float r = rsqrtf(block_sum(sum) / width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x) y[i] = narrow<T>(wide(x[i]) * r * wide(weight[i]));
}

EACH(rms_norm, (const void *x, const void *weight, void *y, int width, float eps, int narrow_x, int weight_kind),
     if (narrow_x) OF_KIND(weight_kind, rms_norm((const T *)x, (const W *)weight, (T *)y, width, eps))
     else OF_KIND(weight_kind, rms_norm((const float *)x, (const W *)weight, (T *)y, width, eps)))

// dx += r · d − x · r³ / width · Σ d·x with d = w · g. `x` may be kept in few bits.
template <typename W, typename X>
__device__ void rms_norm_backward(const X *x, const W *weight, const float *g, float *dx, int width, float eps) {
    i64 at = (i64)blockIdx.x * width;
    x += at, g += at, dx += at;
    float squares = 0, dots = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float v = wide(x[i]);
        squares += v * v;
        dots += v * wide(weight[i]) * g[i];
    }
    float r = rsqrtf(block_sum(squares) / width + eps);
    float pull = r * r * r * block_sum(dots) / width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        dx[i] += r * wide(weight[i]) * g[i] - pull * wide(x[i]);
    }
}

EACH(rms_norm_backward,
     (const void *x, const void *weight, const float *g, float *dx, int width, float eps, int weight_kind),
     OF_KIND(weight_kind, rms_norm_backward((const T *)x, (const W *)weight, g, dx, width, eps)))

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

// Eight values that are read and written together.
template <typename T> struct __align__(16) Pack {
    T v[8];
};

// silu(gate) · up of rows that hold both side by side. Blocks are of a row, `blockIdx.x`; a thread takes eight values.
template <typename T> __device__ void gated(const T *both, T *y, int width) {
    int at = 8 * (blockIdx.y * blockDim.x + threadIdx.x);
    if (at >= width) return;
    const T *row = both + (i64)blockIdx.x * 2 * width + at;
    y += (i64)blockIdx.x * width + at;
    Pack<T> gates, ups;
    bool whole = width % 8 == 0;
    int count = whole ? 8 : min(8, width - at);
    if (whole) gates = *(const Pack<T> *)row, ups = *(const Pack<T> *)(row + width);
    else for (int i = 0; i < count; i++) gates.v[i] = row[i], ups.v[i] = row[i + width];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float gate = wide(gates.v[i]);
        gates.v[i] = narrow<T>(gate * sigmoid(gate) * wide(ups.v[i]));
    }
    if (whole) *(Pack<T> *)y = gates;
    else for (int i = 0; i < count; i++) y[i] = gates.v[i];
}
EACH(gated, (const void *both, void *y, int width), gated((const T *)both, (T *)y, width))

// The gradients of gate and up, in their place, from that of the product.
template <typename T> __device__ void gated_backward(T *both, const T *g, int width) {
    int at = 8 * (blockIdx.y * blockDim.x + threadIdx.x);
    if (at >= width) return;
    T *row = both + (i64)blockIdx.x * 2 * width + at;
    g += (i64)blockIdx.x * width + at;
    Pack<T> gates, ups, own;
    bool whole = width % 8 == 0;
    int count = whole ? 8 : min(8, width - at);
    if (whole) gates = *(Pack<T> *)row, ups = *(Pack<T> *)(row + width), own = *(const Pack<T> *)g;
    else for (int i = 0; i < count; i++) gates.v[i] = row[i], ups.v[i] = row[i + width], own.v[i] = g[i];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float gate = wide(gates.v[i]), up = wide(ups.v[i]), s = sigmoid(gate), d = wide(own.v[i]);
        gates.v[i] = narrow<T>(d * up * s * (1.0f + gate * (1.0f - s)));
        ups.v[i] = narrow<T>(d * gate * s);
    }
    if (whole) *(Pack<T> *)row = gates, *(Pack<T> *)(row + width) = ups;
    else for (int i = 0; i < count; i++) row[i] = gates.v[i], row[i + width] = ups.v[i];
}
EACH(gated_backward, (void *both, const void *g, int width), gated_backward((T *)both, (const T *)g, width))

__device__ __forceinline__ uint64_t splitmix64(uint64_t seed, uint64_t counter) {
    uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// The factor of a value of a row of `width`: 0 or `scale`. A function of the seed and the place, the CPU's.
__device__ __forceinline__ float kept(uint64_t seed, i64 row, int column, int width, uint32_t threshold, float scale) {
    uint64_t key = splitmix64(seed, row);
    int half = (width + 1) / 2;
    bool first = column < half;
    uint32_t x = (uint32_t)key + (uint32_t)(first ? column : column - half) * 0x9e3779b9u;
    x = ((x ^ (x >> 16)) * 0x7feb352du) ^ (uint32_t)(key >> 32);
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    x ^= x >> 16;
    uint32_t bits = first ? x & 0xffff : x >> 16;
    return bits < threshold ? 0.0f : scale;
}

template <typename T>
__device__ void drop(const T *x, T *y, i64 count, int width, uint64_t seed, uint32_t threshold, float scale) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = narrow<T>(wide(x[i]) * kept(seed, i / width, i % width, width, threshold, scale));
}
EACH(drop, (const void *x, void *y, i64 count, int width, uint64_t seed, uint32_t threshold, float scale),
     drop((const T *)x, (T *)y, count, width, seed, threshold, scale))

// y += x through a mask; x is f32.
template <typename T>
__device__ void add_dropped(const float *x, T *y, i64 count, int width, uint64_t seed, uint32_t threshold, float scale) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = narrow<T>(wide(y[i]) + x[i] * kept(seed, i / width, i % width, width, threshold, scale));
}
EACH(add_dropped, (const float *x, void *y, i64 count, int width, uint64_t seed, uint32_t threshold, float scale),
     add_dropped(x, (T *)y, count, width, seed, threshold, scale))

// f32 to the other precision, or a copy.
template <typename T> __device__ void convert(const float *x, T *y, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = narrow<T>(x[i]);
}
EACH(convert, (const float *x, void *y, i64 count), convert(x, (T *)y, count))

// Rows [rows, width], `stride` apart, of a bias.
template <typename T, typename B>
__device__ void fill_rows(const B *bias, T *y, i64 count, int width, int stride, float residual) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    i64 at = i / width * stride + i % width;
    y[at] = narrow<T>((residual != 0 ? wide(y[at]) : 0.0f) + wide(bias[i % width]));
}
EACH(fill_rows, (const void *bias, void *y, i64 count, int width, int stride, float residual, int bias_kind),
     OF_KIND(bias_kind, fill_rows((const W *)bias, (T *)y, count, width, stride, residual)))

// Rows [rows, width] from one pitch to another.
template <typename T> __device__ void copy_rows(const T *from, T *to, int width, int from_pitch, int to_pitch, i64 count) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i / width * to_pitch + i % width] = from[i / width * from_pitch + i % width];
}
EACH(copy_rows, (const void *from, void *to, int width, int from_pitch, int to_pitch, i64 count),
     copy_rows((const T *)from, (T *)to, width, from_pitch, to_pitch, count))

// Rows of a table as f32, one block a row.
template <typename T> __device__ void embed(const uint32_t *ids, const T *table, float *y, int width) {
    const T *row = table + (i64)ids[blockIdx.x] * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) y[(i64)blockIdx.x * width + i] = wide(row[i]);
}
EACH(embed, (const uint32_t *ids, const void *table, float *y, int width), embed(ids, (const T *)table, y, width))

// Queries and keys made ready: perhaps a norm of each head, perhaps rotated. One warp a head of a token; rows of `from` are
// `stride` wide, those of `to` hold queries and keys alone.
template <typename T, typename W>
__device__ void heads_ready(const T *from, T *to, const W *query_norm, const W *key_norm, const float *angles,
                            const uint32_t *positions, int heads, int queries, int dim, int stride, int table,
                            float eps, i64 count) {
    i64 job = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (job >= count) return;
    int lane = threadIdx.x % 32, head = job % heads, half = dim / 2;
    i64 token = job / heads;
    const T *x = from + token * stride + head * dim;
    T *y = to + (token * heads + head) * dim;
    const W *norm = head < queries ? query_norm : key_norm;
    float r = 1;
    if (norm) {
        float sum = 0;
        for (int i = lane; i < dim; i += 32) sum += wide(x[i]) * wide(x[i]);
        r = rsqrtf(warp_sum(sum) / dim + eps);
    }
    for (int i = lane; i < half; i += 32) {
        float a = wide(x[i]) * r, b = wide(x[i + half]) * r;
        if (norm) a *= wide(norm[i]), b *= wide(norm[i + half]);
        float c = 1, s = 0;
        if (angles) {
            i64 at = (i64)positions[token] * half + i;
            c = angles[at], s = angles[(i64)table * half + at];
        }
        y[i] = narrow<T>(a * c - b * s);
        y[i + half] = narrow<T>(b * c + a * s);
    }
}
EACH(heads_ready,
     (const void *from, void *to, const void *query_norm, const void *key_norm, const float *angles,
      const uint32_t *positions, int heads, int queries, int dim, int stride, int table, float eps, i64 count,
      int norm_kind),
     OF_KIND(norm_kind, heads_ready((const T *)from, (T *)to, (const W *)query_norm, (const W *)key_norm, angles,
                                    positions, heads, queries, dim, stride, table, eps, count)))

// From the gradients of heads that are ready, f32, those of the heads as they were. Rows of `from` and `to` are `stride` wide.
template <typename T, typename W>
__device__ void heads_back(const float *g, const T *from, T *to, const W *query_norm, const W *key_norm,
                           const float *angles, const uint32_t *positions, int heads, int queries, int dim, int stride,
                           int table, float eps, i64 count) {
    i64 job = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (job >= count) return;
    int lane = threadIdx.x % 32, head = job % heads, half = dim / 2;
    i64 token = job / heads;
    const float *d = g + (token * heads + head) * dim;
    const T *x = from + token * stride + head * dim;
    T *y = to + token * stride + head * dim;
    const W *norm = head < queries ? query_norm : key_norm;
    float r = 1, pull = 0, squares = 0, dots = 0;
    // Twice where there is a norm: for its sums, and for the result.
    for (int pass = norm ? 0 : 1; pass < 2; pass++) {
        for (int i = lane; i < half; i += 32) {
            float a = d[i], b = d[i + half], c = 1, s = 0;
            if (angles) {
                i64 at = (i64)positions[token] * half + i;
                c = angles[at], s = angles[(i64)table * half + at];
            }
            float back_a = a * c + b * s, back_b = b * c - a * s;
            if (norm) {
                float xa = wide(x[i]), xb = wide(x[i + half]);
                back_a *= wide(norm[i]), back_b *= wide(norm[i + half]);
                if (pass == 0) {
                    squares += xa * xa + xb * xb;
                    dots += xa * back_a + xb * back_b;
                    continue;
                }
                back_a = r * back_a - pull * xa, back_b = r * back_b - pull * xb;
            }
            y[i] = narrow<T>(back_a);
            y[i + half] = narrow<T>(back_b);
        }
        if (pass == 0) {
            r = rsqrtf(warp_sum(squares) / dim + eps);
            pull = r * r * r * warp_sum(dots) / dim;
        }
    }
}
EACH(heads_back,
     (const float *g, const void *from, void *to, const void *query_norm, const void *key_norm, const float *angles,
      const uint32_t *positions, int heads, int queries, int dim, int stride, int table, float eps, i64 count,
      int norm_kind),
     OF_KIND(norm_kind, heads_back(g, (const T *)from, (T *)to, (const W *)query_norm, (const W *)key_norm, angles,
                                   positions, heads, queries, dim, stride, table, eps, count)))
