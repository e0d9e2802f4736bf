// Causal attention over sequences that lie end to end, on tensor cores, forward and backward, with memory linear in the number of
// tokens (Dao 2023, arXiv:2307.08691). bf16, or f16 where HALF is defined, with f32 sums; nothing is summed in an order that changes
// from run to run. TURING is defined for cards of compute capability 7.5.
//
// A tile of products is spread over a warp as `mma.m16n8k16` has it: thread `4 g + t` holds of a 16 × 8 result the rows g and g + 8,
// columns 2 t and 2 t + 1. Two such results side by side are, rounded, the left operand of the next product.
#include "common.cuh"

#ifdef HALF
typedef f16 num;
#define MMA(shape) "mma.sync.aligned." shape ".row.col.f32.f16.f16.f32 "
#else
typedef bf16 num;
#define MMA(shape) "mma.sync.aligned." shape ".row.col.f32.bf16.bf16.f32 "
#endif

#ifndef EMULATED
// Four 8 × 8 matrices of 16-bit values; thread i names row i % 8 of matrix i / 8, sixteen bytes.
__device__ __forceinline__ void load_matrices(uint32_t r[4], const num *row) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}

__device__ __forceinline__ void load_turned(uint32_t r[4], const num *row) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}

#ifndef TURING
// d += a b
__device__ __forceinline__ void multiply(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm volatile(MMA("m16n8k16") "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Sixteen bytes to shared memory while the threads go on; zeros where there are none.
__device__ __forceinline__ void copy_ahead(num *to, const num *from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 : : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

// Ends a group of copies, and waits until all groups but the newest are there.
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }
__device__ __forceinline__ void wait_for_older() { asm volatile("cp.async.wait_group 1;" : : : "memory"); }
#else
// Turing multiplies half as deep at a time, and copies through registers.
__device__ __forceinline__ void multiply(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm volatile(MMA("m16n8k8") "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm volatile(MMA("m16n8k8") "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
}

__device__ __forceinline__ void copy_ahead(num *to, const num *from, bool valid) {
    *(uint4 *)to = valid ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
}

__device__ __forceinline__ void end_copies() {}
__device__ __forceinline__ void wait_for_older() {}
#endif
#endif

__device__ __forceinline__ uint32_t pair(float low, float high) {
#ifdef HALF
    __half2 both = __floats2half2_rn(low, high);
#else
    __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
#endif
    return *(uint32_t *)&both;
}

#define QUERIES 64  // of a tile, and of keys where a block is of keys: sixteen a warp
#define LOG2E 1.4426950408889634f

// Queries that a block of keys takes at a time. Blocks of a card of compute capability 7.5 share 64 KB.
#ifdef TURING
#define ROWS_OF(D) ((D) > 96 ? 16 : 32)
#else
#define ROWS_OF(D) 32
#endif

// Rows of a tile lie this far apart, so that rows of a matrix are in different banks.
#define PITCH(D) ((D) + 8)

// Copies `rows` rows of `D` values, of which `valid` exist; the others are zero.
template <int D> __device__ __forceinline__ void load_rows(num *to, const num *from, int stride, int rows, int valid) {
    const int pieces = D / 8;
    for (int i = threadIdx.x; i < rows * pieces; i += blockDim.x) {
        int row = i / pieces, at = i % pieces * 8;
        uint4 values = make_uint4(0, 0, 0, 0);
        if (row < valid) values = *(const uint4 *)(from + (i64)row * stride + at);
        *(uint4 *)(to + row * PITCH(D) + at) = values;
    }
}

// The same while the threads go on.
template <int D> __device__ __forceinline__ void load_ahead(num *to, const num *from, int stride, int rows, int valid) {
    const int pieces = D / 8;
    for (int i = threadIdx.x; i < rows * pieces; i += blockDim.x) {
        int row = i / pieces, at = i % pieces * 8;
        copy_ahead(to + row * PITCH(D) + at, row < valid ? from + (i64)row * stride + at : from, row < valid);
    }
}

// The left operand: 16 rows from `row` on, 16 columns from `column` on.
template <int D> __device__ __forceinline__ void left(uint32_t a[4], const num *tile, int row, int column) {
    int lane = threadIdx.x % 32;
    load_matrices(a, tile + (row + lane % 16) * PITCH(D) + column + lane / 16 * 8);
}

// Right operands of two results side by side, from a tile whose rows are the result's columns: b[0..2] and b[2..4].
template <int D> __device__ __forceinline__ void right(uint32_t b[4], const num *tile, int row, int column) {
    int lane = threadIdx.x % 32;
    load_matrices(b, tile + (row + lane / 16 * 8 + lane % 8) * PITCH(D) + column + lane / 8 % 2 * 8);
}

// The same from a tile whose columns are the result's columns.
template <int D> __device__ __forceinline__ void right_turned(uint32_t b[4], const num *tile, int row, int column) {
    int lane = threadIdx.x % 32;
    load_turned(b, tile + (row + lane % 16) * PITCH(D) + column + lane / 16 * 8);
}

// Two results side by side, rounded, as the left operand.
__device__ __forceinline__ void as_left(uint32_t a[4], const float (*s)[4]) {
    a[0] = pair(s[0][0], s[0][1]);
    a[1] = pair(s[0][2], s[0][3]);
    a[2] = pair(s[1][0], s[1][1]);
    a[3] = pair(s[1][2], s[1][3]);
}

struct Tile {
    int start, length, first, unused;
};

// Whether a query of a sequence sees a key.
__device__ __forceinline__ bool sees(int query, int key, int length, int window) {
    return key <= query && query < length && (window == 0 || key + window > query);
}

template <int D, int KEYS>
__device__ void forward(const num *q, const num *k, const num *v, num *out, float *log_sums, const Tile *tiles,
                        int heads, int group, int qk_stride, int v_stride, int window, float scale) {
    // Two tiles of keys and values: one is computed with while the next is copied. Queries go through it first.
    __shared__ __align__(16) num shared[(4 * KEYS > QUERIES ? 4 * KEYS : QUERIES) * PITCH(D)];
    Tile tile = tiles[blockIdx.x];
    int head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    i64 start = tile.start;
    q += start * qk_stride + head * D;
    k += start * qk_stride + head / group * D;
    v += start * v_stride + head / group * D;
    uint32_t queries[D / 16][4];
    load_rows<D>(shared, q + (i64)tile.first * qk_stride, qk_stride, QUERIES, tile.length - tile.first);
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++) left<D>(queries[kk], shared, warp * 16, kk * 16);

    float mixed[D / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    float factor = scale * LOG2E;
    int last = min(tile.first + QUERIES, tile.length) - 1;
    int begin = window > 0 ? max(0, tile.first - window + 1) / KEYS * KEYS : 0;
    __syncthreads();
    load_ahead<D>(shared, k + (i64)begin * qk_stride, qk_stride, KEYS, tile.length - begin);
    load_ahead<D>(shared + KEYS * PITCH(D), v + (i64)begin * v_stride, v_stride, KEYS, tile.length - begin);
    end_copies();
    for (int from = begin, turn = 0; from <= last; from += KEYS, turn ^= 1) {
        num *keys = shared + turn * 2 * KEYS * PITCH(D), *values = keys + KEYS * PITCH(D);
        // All are done with the other tile.
        __syncthreads();
        int next = from + KEYS;
        if (next <= last) {
            num *to = shared + (turn ^ 1) * 2 * KEYS * PITCH(D);
            load_ahead<D>(to, k + (i64)next * qk_stride, qk_stride, KEYS, tile.length - next);
            load_ahead<D>(to + KEYS * PITCH(D), v + (i64)next * v_stride, v_stride, KEYS, tile.length - next);
        }
        end_copies();
        wait_for_older();
        __syncthreads();
        float s[KEYS / 8][4] = {};
#pragma unroll
        for (int kk = 0; kk < D / 16; kk++) {
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t b[4];
                right<D>(b, keys, n * 16, kk * 16);
                multiply(s[2 * n], queries[kk], b[0], b[1]);
                multiply(s[2 * n + 1], queries[kk], b[2], b[3]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int query = tile.first + warp * 16 + g + 8 * half;
            float larger = most[half];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float *score = &s[n][2 * half + e];
                    if (!sees(query, from + n * 8 + 2 * t + e, tile.length, window)) *score = -INFINITY;
                    larger = fmaxf(larger, *score);
                }
            }
            larger = fmaxf(larger, __shfl_xor_sync(0xffffffffu, larger, 1));
            larger = fmaxf(larger, __shfl_xor_sync(0xffffffffu, larger, 2));
            // A row that has seen no key yet keeps zeros.
            float base = larger == -INFINITY ? 0.0f : larger * factor;
            float before = exp2f(most[half] * factor - base);
            most[half] = larger;
            float sum = 0;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float p = exp2f(s[n][2 * half + e] * factor - base);
                    s[n][2 * half + e] = p;
                    sum += p;
                }
            }
            total[half] = total[half] * before + sum;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                mixed[n][2 * half] *= before;
                mixed[n][2 * half + 1] *= before;
            }
        }
#pragma unroll
        for (int kk = 0; kk < KEYS / 16; kk++) {
            uint32_t a[4];
            as_left(a, &s[2 * kk]);
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                uint32_t b[4];
                right_turned<D>(b, values, kk * 16, n * 16);
                multiply(mixed[2 * n], a, b[0], b[1]);
                multiply(mixed[2 * n + 1], a, b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
        int query = tile.first + warp * 16 + g + 8 * half;
        if (query >= tile.length) continue;
        i64 row = (start + query) * heads + head;
        float inverse = 1.0f / total[half];
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            *(uint32_t *)(out + row * D + n * 8 + 2 * t) =
                pair(mixed[n][2 * half] * inverse, mixed[n][2 * half + 1] * inverse);
        }
        if (t == 0 && log_sums) log_sums[row] = most[half] * scale + logf(total[half]);
    }
}

// The gradients of 64 queries of a head, f32.
template <int D, int KEYS>
__device__ void of_queries(const num *q, const num *k, const num *v, const num *gradient, const float *log_sums,
                           const float *pulls, float *to, const Tile *tiles, int heads, int group, int qk_stride,
                           int v_stride, int window, float scale) {
    // Two tiles of keys and values: one is computed with while the next is copied. Queries go through it first.
    __shared__ __align__(16) num shared[(4 * KEYS > QUERIES ? 4 * KEYS : QUERIES) * PITCH(D)];
    Tile tile = tiles[blockIdx.x];
    int head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    i64 start = tile.start;
    int width = heads * D;
    q += start * qk_stride + head * D;
    gradient += start * width + head * D;
    k += start * qk_stride + head / group * D;
    v += start * v_stride + head / group * D;
    uint32_t queries[D / 16][4], upstream[D / 16][4];
    load_rows<D>(shared, q + (i64)tile.first * qk_stride, qk_stride, QUERIES, tile.length - tile.first);
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++) left<D>(queries[kk], shared, warp * 16, kk * 16);
    __syncthreads();
    load_rows<D>(shared, gradient + (i64)tile.first * width, width, QUERIES, tile.length - tile.first);
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++) left<D>(upstream[kk], shared, warp * 16, kk * 16);
    float log_sum[2], pull[2], sums[D / 8][4] = {};
    for (int half = 0; half < 2; half++) {
        int query = tile.first + warp * 16 + g + 8 * half;
        i64 row = (start + min(query, tile.length - 1)) * heads + head;
        log_sum[half] = log_sums[row] * LOG2E, pull[half] = pulls[row];
    }
    float factor = scale * LOG2E;
    int last = min(tile.first + QUERIES, tile.length) - 1;
    int begin = window > 0 ? max(0, tile.first - window + 1) / KEYS * KEYS : 0;
    __syncthreads();
    load_ahead<D>(shared, k + (i64)begin * qk_stride, qk_stride, KEYS, tile.length - begin);
    load_ahead<D>(shared + KEYS * PITCH(D), v + (i64)begin * v_stride, v_stride, KEYS, tile.length - begin);
    end_copies();
    for (int from = begin, turn = 0; from <= last; from += KEYS, turn ^= 1) {
        num *keys = shared + turn * 2 * KEYS * PITCH(D), *values = keys + KEYS * PITCH(D);
        // All are done with the other tile.
        __syncthreads();
        int next = from + KEYS;
        if (next <= last) {
            num *to = shared + (turn ^ 1) * 2 * KEYS * PITCH(D);
            load_ahead<D>(to, k + (i64)next * qk_stride, qk_stride, KEYS, tile.length - next);
            load_ahead<D>(to + KEYS * PITCH(D), v + (i64)next * v_stride, v_stride, KEYS, tile.length - next);
        }
        end_copies();
        wait_for_older();
        __syncthreads();
        float s[KEYS / 8][4] = {}, dp[KEYS / 8][4] = {};
#pragma unroll
        for (int kk = 0; kk < D / 16; kk++) {
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t b[4];
                right<D>(b, keys, n * 16, kk * 16);
                multiply(s[2 * n], queries[kk], b[0], b[1]);
                multiply(s[2 * n + 1], queries[kk], b[2], b[3]);
                right<D>(b, values, n * 16, kk * 16);
                multiply(dp[2 * n], upstream[kk], b[0], b[1]);
                multiply(dp[2 * n + 1], upstream[kk], b[2], b[3]);
            }
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int half = e / 2, query = tile.first + warp * 16 + g + 8 * half, key = from + n * 8 + 2 * t + e % 2;
                float p = sees(query, key, tile.length, window) ? exp2f(s[n][e] * factor - log_sum[half]) : 0.0f;
                s[n][e] = p * (dp[n][e] - pull[half]) * scale;
            }
        }
#pragma unroll
        for (int kk = 0; kk < KEYS / 16; kk++) {
            uint32_t a[4];
            as_left(a, &s[2 * kk]);
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                uint32_t b[4];
                right_turned<D>(b, keys, kk * 16, n * 16);
                multiply(sums[2 * n], a, b[0], b[1]);
                multiply(sums[2 * n + 1], a, b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int query = tile.first + warp * 16 + g + 8 * half;
        if (query >= tile.length) continue;
        float *row = to + (start + query) * qk_stride + head * D;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            row[n * 8 + 2 * t] = sums[n][2 * half];
            row[n * 8 + 2 * t + 1] = sums[n][2 * half + 1];
        }
    }
}

// What the queries of one head give the gradients of 64 keys and of their values, f32, [tokens, heads, D] each: those of the heads that
// share a key are added up later. Products are turned: rows are keys.
template <int D, int ROWS>
__device__ void of_keys(const num *q, const num *k, const num *v, const num *gradient, const float *log_sums,
                        const float *pulls, float *to, float *to_values, const Tile *tiles, int heads, int group,
                        int qk_stride, int v_stride, int window, float scale) {
    extern __shared__ __align__(16) char dynamic[];
    // Two tiles of queries and their gradients: one is computed with while the next is copied.
    num *keys = (num *)dynamic, *values = keys + QUERIES * PITCH(D), *others = values + QUERIES * PITCH(D);
    __shared__ float all_log_sums[2][ROWS], all_pulls[2][ROWS];
    // Keys that most queries see first: the other way round.
    Tile tile = tiles[gridDim.x - 1 - blockIdx.x];
    int head = blockIdx.y, key_head = head / group, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int g = lane / 4, t = lane % 4;
    i64 start = tile.start;
    int width = heads * D, first = tile.first;
    k += (start + first) * qk_stride + key_head * D;
    v += (start + first) * v_stride + key_head * D;
    load_rows<D>(keys, k, qk_stride, QUERIES, tile.length - first);
    load_rows<D>(values, v, v_stride, QUERIES, tile.length - first);
    float of_key[D / 8][4] = {}, of_value[D / 8][4] = {}, factor = scale * LOG2E;
    int end = window > 0 ? min(tile.length, first + QUERIES + window - 1) : tile.length;
    auto load = [&](int from, int turn) {
        int valid = tile.length - from;
        num *to = others + turn * 2 * ROWS * PITCH(D);
        load_ahead<D>(to, q + (start + from) * qk_stride + head * D, qk_stride, ROWS, valid);
        load_ahead<D>(to + ROWS * PITCH(D), gradient + (start + from) * width + head * D, width, ROWS, valid);
        for (int i = threadIdx.x; i < ROWS; i += blockDim.x) {
            i64 row = (start + from + min(i, valid - 1)) * heads + head;
            all_log_sums[turn][i] = log_sums[row] * LOG2E, all_pulls[turn][i] = pulls[row];
        }
    };
    int begin = first / ROWS * ROWS;
    load(begin, 0);
    end_copies();
    for (int from = begin, turn = 0; from < end; from += ROWS, turn ^= 1) {
        num *queries = others + turn * 2 * ROWS * PITCH(D), *upstream = queries + ROWS * PITCH(D);
        const float *log_sum = all_log_sums[turn], *pull = all_pulls[turn];
        // All are done with the other tile.
        __syncthreads();
        if (from + ROWS < end) load(from + ROWS, turn ^ 1);
        end_copies();
        wait_for_older();
        __syncthreads();
        float p[ROWS / 8][4] = {}, ds[ROWS / 8][4] = {};
#pragma unroll
        for (int kk = 0; kk < D / 16; kk++) {
            uint32_t a[4], c[4];
            left<D>(a, keys, warp * 16, kk * 16);
            left<D>(c, values, warp * 16, kk * 16);
#pragma unroll
            for (int n = 0; n < ROWS / 16; n++) {
                uint32_t b[4];
                right<D>(b, queries, n * 16, kk * 16);
                multiply(p[2 * n], a, b[0], b[1]);
                multiply(p[2 * n + 1], a, b[2], b[3]);
                right<D>(b, upstream, n * 16, kk * 16);
                multiply(ds[2 * n], c, b[0], b[1]);
                multiply(ds[2 * n + 1], c, b[2], b[3]);
            }
        }
#pragma unroll
        for (int n = 0; n < ROWS / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int key = first + warp * 16 + g + e / 2 * 8, at = n * 8 + 2 * t + e % 2;
                bool seen = sees(from + at, key, tile.length, window);
                float one = seen ? exp2f(p[n][e] * factor - log_sum[at]) : 0.0f;
                p[n][e] = one;
                ds[n][e] = one * (ds[n][e] - pull[at]) * scale;
            }
        }
#pragma unroll
        for (int kk = 0; kk < ROWS / 16; kk++) {
            uint32_t a[4], c[4];
            as_left(a, &p[2 * kk]);
            as_left(c, &ds[2 * kk]);
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                uint32_t b[4];
                right_turned<D>(b, upstream, kk * 16, n * 16);
                multiply(of_value[2 * n], a, b[0], b[1]);
                multiply(of_value[2 * n + 1], a, b[2], b[3]);
                right_turned<D>(b, queries, kk * 16, n * 16);
                multiply(of_key[2 * n], c, b[0], b[1]);
                multiply(of_key[2 * n + 1], c, b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int key = first + warp * 16 + g + 8 * half;
        if (key >= tile.length) continue;
        i64 row = (start + key) * width + head * D;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            *(float2 *)(to + row + n * 8 + 2 * t) = make_float2(of_key[n][2 * half], of_key[n][2 * half + 1]);
            *(float2 *)(to_values + row + n * 8 + 2 * t) = make_float2(of_value[n][2 * half], of_value[n][2 * half + 1]);
        }
    }
}

// The sums over the heads that share a key head: of keys f32 into rows of queries and keys, of values into rows like theirs. One
// block a token.
extern "C" __global__ void sum_of_heads(const float *keys, const float *values, float *to, num *to_values, int heads,
                                        int group, int dim, int qk_stride, int v_stride) {
    i64 token = blockIdx.x;
    int width = heads / group * dim;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        i64 at = token * heads * dim + i / dim * group * dim + i % dim;
        float key = 0, value = 0;
        for (int head = 0; head < group; head++) key += keys[at + head * dim], value += values[at + head * dim];
        to[token * qk_stride + i] = key;
        to_values[token * v_stride + i] = narrow<num>(value);
    }
}

#define WIDTH(D, KEYS)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(128) attention_##D(                                                     \
        const num *q, const num *k, const num *v, num *out, float *log_sums, const Tile *tiles, int heads,           \
        int group, int qk_stride, int v_stride, int window, float scale) {                                               \
        forward<D, KEYS>(q, k, v, out, log_sums, tiles, heads, group, qk_stride, v_stride, window, scale);               \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(128) attention_queries_##D(                                             \
        const num *q, const num *k, const num *v, const num *g, const float *log_sums, const float *pulls,           \
        float *to, const Tile *tiles, int heads, int group, int qk_stride, int v_stride, int window, float scale) {      \
        of_queries<D, 32>(q, k, v, g, log_sums, pulls, to, tiles, heads, group, qk_stride, v_stride, window, scale);     \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(128) attention_keys_##D(                                                \
        const num *q, const num *k, const num *v, const num *g, const float *log_sums, const float *pulls,           \
        float *to, float *to_values, const Tile *tiles, int heads, int group, int qk_stride, int v_stride, int window,   \
        float scale) {                                                                                                   \
        of_keys<D, ROWS_OF(D)>(q, k, v, g, log_sums, pulls, to, to_values, tiles, heads, group, qk_stride, v_stride,     \
                               window, scale);                                                                           \
    }

WIDTH(32, 64)
WIDTH(64, 64)
WIDTH(96, 32)
WIDTH(128, 32)
