// The next token of each row of logits, one block a row: repetition penalty, temperature, top-k, top-p and the draw. What is summed is
// whole numbers, so that no sum depends on the order in which threads come.
#include "common.cuh"

typedef unsigned long long u64;

#define WARPS 32
#define BINS 2048            // of a digit of eleven bits
#define ONE 44               // shares are whole numbers of 2^-44 of the likeliest token's
#define NONE 0xffffffffu     // no token: a logit is not finite
#define MOST 3.402823466e38f

// Keys in the order of the numbers; both zeros have one.
__device__ __forceinline__ uint32_t key_of(float x) {
    uint32_t bits = __float_as_uint(x == 0.0f ? 0.0f : x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float number_of(uint32_t key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ __forceinline__ u64 warp_total(u64 x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

// The sum over this thread of a warp and those before it.
__device__ __forceinline__ u64 warp_upto(u64 x) {
    int lane = threadIdx.x % 32;
    for (int step = 1; step < 32; step *= 2) {
        u64 before = __shfl_up_sync(0xffffffffu, x, step);
        if (lane >= step) x += before;
    }
    return x;
}

// A value of each warp, known to every thread.
__device__ __forceinline__ void tell_all(u64 *parts, u64 of_warp) {
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = of_warp;
    __syncthreads();
}

__device__ __forceinline__ u64 block_total(u64 *parts, u64 x) {
    tell_all(parts, warp_total(x));
    u64 total = 0;
    for (int i = 0; i < WARPS; i++) total += parts[i];
    return total;
}

__device__ __forceinline__ u64 block_most(u64 *parts, u64 x) {
    for (int step = 16; step > 0; step /= 2) {
        u64 other = __shfl_xor_sync(0xffffffffu, x, step);
        x = other > x ? other : x;
    }
    tell_all(parts, x);
    u64 most = 0;
    for (int i = 0; i < WARPS; i++) most = parts[i] > most ? parts[i] : most;
    return most;
}

// Place and value of every number of a row, spread over the block.
template <typename F> __device__ __forceinline__ void each(const float *row, int count, F f) {
    if (count % 4 == 0) {
        for (int i = 4 * threadIdx.x; i < count; i += 4 * blockDim.x) {
            float4 four = *(const float4 *)(row + i);
            f(i, four.x), f(i + 1, four.y), f(i + 2, four.z), f(i + 3, four.w);
        }
    } else {
        for (int i = threadIdx.x; i < count; i += blockDim.x) f(i, row[i]);
    }
}

// Added in halves, of which the carries are the same in any order.
__device__ __forceinline__ void add_to_bin(u64 *bin, u64 x) {
    uint32_t *halves = (uint32_t *)bin, low = (uint32_t)x, before = atomicAdd(halves, low);
    uint32_t high = (uint32_t)(x >> 32) + (before + low < before ? 1u : 0u);
    if (high) atomicAdd(halves + 1, high);
}

// What a block shares.
struct Shared {
    u64 parts[WARPS];
    u64 bins[BINS];
    u64 above, here;
    int bin;
};

// A key, the weight of all larger ones, and of all that are the same.
struct Edge {
    uint32_t key;
    u64 above, here;
};

// The largest key for which the weights of all that are no smaller sum to `wanted`, which is at least 1 and no more than all weights.
template <typename W>
__device__ Edge edge_of(Shared &shared, const float *row, int count, u64 wanted, W weight) {
    Edge edge = {0, 0, 0};
    int warp = threadIdx.x / 32;
    for (int digit = 0; digit < 3; digit++) {
        const int shift = digit == 0 ? 21 : digit == 1 ? 10 : 0, bits = digit == 2 ? 10 : 11;
        __syncthreads();
        for (int i = threadIdx.x; i < BINS; i += blockDim.x) shared.bins[i] = 0;
        if (threadIdx.x == 0) shared.bin = 0, shared.above = edge.above, shared.here = 0;
        __syncthreads();
        const uint32_t known = edge.key;
        each(row, count, [&](int, float x) {
            uint32_t key = key_of(x);
            if (digit > 0 && (key ^ known) >> (shift + bits) != 0) return;
            u64 own = weight(key);
            if (own) add_to_bin(shared.bins + (key >> shift) % BINS % (1u << bits), own);
        });
        __syncthreads();
        // Each thread has two bins, those of the largest keys first.
        int first = BINS - 1 - 2 * (int)threadIdx.x;
        u64 larger = shared.bins[first], smaller = shared.bins[first - 1], own = larger + smaller;
        u64 upto = warp_upto(own);
        tell_all(shared.parts, warp_total(own));
        u64 before = edge.above + upto - own;
        for (int i = 0; i < warp; i++) before += shared.parts[i];
        if (before < wanted && before + own >= wanted) {
            bool second = before + larger < wanted;
            shared.bin = first - second;
            shared.above = second ? before + larger : before;
            shared.here = second ? smaller : larger;
        }
        __syncthreads();
        edge.key |= (uint32_t)shared.bin << shift;
        edge.above = shared.above, edge.here = shared.here;
    }
    return edge;
}

// The first place up to which weights sum to more than `target`.
template <typename W>
__device__ int place_of(Shared &shared, const float *row, int count, u64 target, W weight) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = 0, end = count;
    while (end - first > 32) {
        int part = (end - first + WARPS - 1) / WARPS;
        int from = min(first + warp * part, end), to = min(from + part, end);
        u64 sum = 0;
#pragma unroll 4
        for (int i = from + lane; i < to; i += 32) sum += weight(i, key_of(row[i]));
        tell_all(shared.parts, warp_total(sum));
        int chosen = 0;
        while (chosen < WARPS - 1 && target >= shared.parts[chosen]) target -= shared.parts[chosen++];
        first = min(first + chosen * part, end - 1);
        end = min(first + part, end);
    }
    u64 own = first + lane < end ? weight(first + lane, key_of(row[first + lane])) : 0;
    u64 upto = warp_upto(own);
    uint32_t found = target < upto ? (uint32_t)(first + lane) : (uint32_t)(end - 1);
    for (int step = 16; step > 0; step /= 2) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, found, step);
        found = other < found ? other : found;
    }
    return (int)found;
}

// `ends` says where the tokens of `seen` end that are each row's own; `work` is room for the row with the penalty on them, or null
// where there is none. `fraction` is top-p in units of 2^-64, 0 for all; a row's random number has 53 bits.
extern "C" __global__ void __launch_bounds__(1024)
    choose(const float *logits, float *work, const uint32_t *seen, const int *ends, const u64 *random, uint32_t *chosen,
           int vocab, float penalty, float scale, int greedy, int top_k, u64 fraction) {
    __shared__ Shared shared;
    const float *row = logits + (i64)blockIdx.x * vocab;
    if (work) {
        float *own = work + (i64)blockIdx.x * vocab;
        each(row, vocab, [&](int i, float x) { own[i] = x; });
        __syncthreads();
        int end = ends[blockIdx.x];
        // A token that was seen twice is written twice, the same.
        for (int i = (blockIdx.x ? ends[blockIdx.x - 1] : 0) + threadIdx.x; i < end; i += blockDim.x) {
            uint32_t id = seen[i];
            if (id >= (uint32_t)vocab || !isfinite(row[id])) continue;
            float moved = row[id] < 0.0f ? row[id] * penalty : row[id] / penalty;
            own[id] = fminf(fmaxf(moved, -MOST), MOST);
        }
        __syncthreads();
        row = own;
    }
    // The likeliest, of equals the first; no finite number has a key of ones.
    u64 best = 0;
    each(row, vocab, [&](int i, float x) {
        u64 own = isfinite(x) ? (u64)key_of(x) << 32 | (uint32_t)~i : ~0ull;
        best = own > best ? own : best;
    });
    best = block_most(shared.parts, best);
    uint32_t largest = (uint32_t)(best >> 32), id = ~(uint32_t)best;
    if (largest == NONE || greedy) {
        if (threadIdx.x == 0) chosen[blockIdx.x] = largest == NONE ? NONE : id;
        return;
    }
    const float most = number_of(largest);
    auto share = [&](uint32_t key) {
        return (u64)(expf((number_of(key) - most) * scale) * (float)(1ull << ONE));
    };
    uint32_t least = 0;
    if (top_k > 0 && top_k < vocab) {
        least = edge_of(shared, row, vocab, top_k, [](uint32_t) { return (u64)1; }).key;
    }
    u64 total = 0;
    each(row, vocab, [&](int, float x) {
        uint32_t key = key_of(x);
        if (key >= least) total += share(key);
    });
    total = block_total(shared.parts, total);

    uint32_t edge = least;
    int last = vocab;
    u64 kept = total;
    if (fraction) {
        u64 wanted = __umul64hi(fraction, total) + (fraction * total ? 1 : 0);
        // All tokens rarer than this together are less than what is left out, so none of them is kept.
        u64 rare = (total - wanted) / vocab;
        Edge found = edge_of(shared, row, vocab, wanted, [&](uint32_t key) {
            u64 own = key < least ? 0 : share(key);
            return own < rare ? 0 : own;
        });
        edge = found.key;
        u64 own = share(edge), ties = own ? (wanted - found.above + own - 1) / own : 1;
        kept = found.above + ties * own;
        if (found.here > ties * own) {
            last = place_of(shared, row, vocab, ties - 1, [&](int, uint32_t key) { return (u64)(key == edge); });
        }
    }
    u64 target = __umul64hi(random[blockIdx.x] << 11, kept);
    int drawn = place_of(shared, row, vocab, target, [&](int i, uint32_t key) {
        return key > edge || (key == edge && i <= last) ? share(key) : 0;
    });
    if (threadIdx.x == 0) chosen[blockIdx.x] = drawn;
}
