// Causal attention without tensor cores, for any width of a head up to 256: in f32, for single tokens after a cache, and for widths
// that the tensor cores' kernels are not made for. Memory is linear in the number of tokens.
#include "common.cuh"

#define WIDEST 8  // values of a head that a thread holds, of 32 threads

// Which keys a query sees: rows first to last.
__device__ __forceinline__ void seen(const int2 *bounds, int token, int offset, int window, int *first, int *last) {
    *first = bounds ? bounds[token].x : 0;
    *last = offset + token;
    if (window > 0) *first = max(*first, *last - window + 1);
}

// One block a query and head; its warps take keys in turn, and their sums are put together at the end.
template <typename T, typename O>
__device__ void attend(const T *q, const T *k, const T *v, O *out, float *log_sums, const int2 *bounds, int heads,
                       int group, int dim, int q_stride, int k_stride, int v_stride, int offset, int window,
                       float scale) {
    __shared__ float mixed[8][32 * WIDEST];
    __shared__ float most_of[8], sum_of[8];
    int token = blockIdx.x, head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int warps = blockDim.x / 32, first, last;
    seen(bounds, token, offset, window, &first, &last);
    q += (i64)token * q_stride + head * dim;
    k += head / group * dim;
    v += head / group * dim;
    float query[WIDEST], sums[WIDEST], most = -INFINITY, total = 0;
    for (int i = 0; i < WIDEST; i++) {
        int at = lane + 32 * i;
        query[i] = at < dim ? wide(q[at]) * scale : 0.0f;
        sums[i] = 0;
    }
    for (int key = first + warp; key <= last; key += warps) {
        float score = 0;
        for (int i = 0; i < WIDEST; i++) {
            int at = lane + 32 * i;
            if (at < dim) score += query[i] * wide(k[(i64)key * k_stride + at]);
        }
        score = warp_sum(score);
        float larger = fmaxf(most, score), before = __expf(most - larger), p = __expf(score - larger);
        most = larger;
        total = total * before + p;
        for (int i = 0; i < WIDEST; i++) {
            int at = lane + 32 * i;
            if (at < dim) sums[i] = sums[i] * before + p * wide(v[(i64)key * v_stride + at]);
        }
    }
    for (int i = 0; i < WIDEST; i++) mixed[warp][lane + 32 * i] = sums[i];
    if (lane == 0) most_of[warp] = most, sum_of[warp] = total;
    __syncthreads();
    float largest = most_of[0], all = 0;
    for (int w = 1; w < warps; w++) largest = fmaxf(largest, most_of[w]);
    for (int w = 0; w < warps; w++) all += sum_of[w] * __expf(most_of[w] - largest);
    for (int at = threadIdx.x; at < dim; at += blockDim.x) {
        float value = 0;
        for (int w = 0; w < warps; w++) value += mixed[w][at] * __expf(most_of[w] - largest);
        out[((i64)token * heads + head) * dim + at] = narrow<O>(value / all);
    }
    if (log_sums && threadIdx.x == 0) log_sums[(i64)token * heads + head] = largest + logf(all);
}
EACH(attend,
     (const void *q, const void *k, const void *v, void *out, float *log_sums, const int2 *bounds, int heads, int group,
      int dim, int q_stride, int k_stride, int v_stride, int offset, int window, float scale, int wide_out),
     if (wide_out) attend((const T *)q, (const T *)k, (const T *)v, (float *)out, log_sums, bounds, heads, group, dim,
                          q_stride, k_stride, v_stride, offset, window, scale);
     else attend((const T *)q, (const T *)k, (const T *)v, (T *)out, log_sums, bounds, heads, group, dim, q_stride,
                 k_stride, v_stride, offset, window, scale))

// Σ out · gradient of each token and head, one warp each: what softmax takes off every score's gradient.
template <typename T> __device__ void pulls(const T *out, const T *g, float *to, int dim, i64 count) {
    i64 job = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (job >= count) return;
    int lane = threadIdx.x % 32;
    float sum = 0;
    for (int i = lane; i < dim; i += 32) sum += wide(out[job * dim + i]) * wide(g[job * dim + i]);
    sum = warp_sum(sum);
    if (lane == 0) to[job] = sum;
}
EACH(pulls, (const void *out, const void *g, float *to, int dim, i64 count),
     pulls((const T *)out, (const T *)g, to, dim, count))

// One warp a query and head: the gradient of the query, f32, [tokens, heads + key heads, dim].
template <typename T>
__device__ void query_gradient(const T *q, const T *k, const T *v, const T *g, const float *log_sums, const float *pulls,
                               float *to, const int2 *bounds, int heads, int group, int dim, int k_stride, int v_stride,
                               int window, float scale) {
    int token = blockIdx.x, head = blockIdx.y, lane = threadIdx.x, first, last;
    seen(bounds, token, 0, window, &first, &last);
    q += (i64)token * k_stride + head * dim;
    g += ((i64)token * heads + head) * dim;
    k += head / group * dim;
    v += head / group * dim;
    float log_sum = log_sums[(i64)token * heads + head], pull = pulls[(i64)token * heads + head];
    float query[WIDEST], upstream[WIDEST], sums[WIDEST];
    for (int i = 0; i < WIDEST; i++) {
        int at = lane + 32 * i;
        query[i] = at < dim ? wide(q[at]) : 0.0f;
        upstream[i] = at < dim ? wide(g[at]) : 0.0f;
        sums[i] = 0;
    }
    for (int key = first; key <= last; key++) {
        float score = 0, dp = 0;
        for (int i = 0; i < WIDEST; i++) {
            int at = lane + 32 * i;
            if (at < dim) {
                score += query[i] * wide(k[(i64)key * k_stride + at]);
                dp += upstream[i] * wide(v[(i64)key * v_stride + at]);
            }
        }
        score = warp_sum(score), dp = warp_sum(dp);
        float ds = __expf(score * scale - log_sum) * (dp - pull) * scale;
        for (int i = 0; i < WIDEST; i++) {
            int at = lane + 32 * i;
            if (at < dim) sums[i] += ds * wide(k[(i64)key * k_stride + at]);
        }
    }
    for (int i = 0; i < WIDEST; i++) {
        int at = lane + 32 * i;
        if (at < dim) to[(i64)token * k_stride + head * dim + at] = sums[i];
    }
}
EACH(query_gradient,
     (const void *q, const void *k, const void *v, const void *g, const float *log_sums, const float *pulls, float *to,
      const int2 *bounds, int heads, int group, int dim, int k_stride, int v_stride, int window, float scale),
     query_gradient((const T *)q, (const T *)k, (const T *)v, (const T *)g, log_sums, pulls, to, bounds, heads, group, dim,
                    k_stride, v_stride, window, scale))

// One warp a key and its head: the gradients of the key, f32, and of the value.
template <typename T>
__device__ void key_gradient(const T *q, const T *k, const T *v, const T *g, const float *log_sums, const float *pulls,
                             float *to, T *to_values, const int2 *bounds, int heads, int group, int dim, int k_stride,
                             int v_stride, int window, float scale) {
    int token = blockIdx.x, key_head = blockIdx.y, lane = threadIdx.x, end = bounds[token].y;
    if (window > 0) end = min(end, token + window);
    const T *own_key = k + (i64)token * k_stride + key_head * dim, *own_value = v + (i64)token * v_stride + key_head * dim;
    float key[WIDEST], value[WIDEST], key_sums[WIDEST], value_sums[WIDEST];
    for (int i = 0; i < WIDEST; i++) {
        int at = lane + 32 * i;
        key[i] = at < dim ? wide(own_key[at]) : 0.0f;
        value[i] = at < dim ? wide(own_value[at]) : 0.0f;
        key_sums[i] = value_sums[i] = 0;
    }
    for (int head = key_head * group; head < (key_head + 1) * group; head++) {
        for (int other = token; other < end; other++) {
            const T *query = q + (i64)other * k_stride + head * dim, *upstream = g + ((i64)other * heads + head) * dim;
            float score = 0, dp = 0;
            for (int i = 0; i < WIDEST; i++) {
                int at = lane + 32 * i;
                if (at < dim) score += key[i] * wide(query[at]), dp += value[i] * wide(upstream[at]);
            }
            score = warp_sum(score), dp = warp_sum(dp);
            float p = __expf(score * scale - log_sums[(i64)other * heads + head]);
            float ds = p * (dp - pulls[(i64)other * heads + head]) * scale;
            for (int i = 0; i < WIDEST; i++) {
                int at = lane + 32 * i;
                if (at < dim) key_sums[i] += ds * wide(query[at]), value_sums[i] += p * wide(upstream[at]);
            }
        }
    }
    for (int i = 0; i < WIDEST; i++) {
        int at = lane + 32 * i;
        if (at >= dim) continue;
        to[(i64)token * k_stride + key_head * dim + at] = key_sums[i];
        to_values[(i64)token * v_stride + key_head * dim + at] = narrow<T>(value_sums[i]);
    }
}
EACH(key_gradient,
     (const void *q, const void *k, const void *v, const void *g, const float *log_sums, const float *pulls, float *to,
      void *to_values, const int2 *bounds, int heads, int group, int dim, int k_stride, int v_stride, int window,
      float scale),
     key_gradient((const T *)q, (const T *)k, (const T *)v, (const T *)g, log_sums, pulls, to, (T *)to_values, bounds,
                  heads, group, dim, k_stride, v_stride, window, scale))

// y = x Wᵀ, f32 x of one row: one warp an output, sixteen bytes of the weight at a time where rows are aligned to that.
template <typename T, typename Y>
__device__ void times_vector(const float *x, const T *weight, Y *y, const float *bias_or_residual, int inputs, int out,
                             float scale) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= out) return;
    const T *w = weight + (i64)row * inputs;
    const int vector = 16 / sizeof(T);
    float sum = 0;
    if (inputs % vector == 0) {
        for (int at = lane * vector; at < inputs; at += 32 * vector) {
            uint4 loaded = *(const uint4 *)(w + at);
            const T *values = (const T *)&loaded;
            for (int i = 0; i < vector; i++) sum += wide(values[i]) * x[at + i];
        }
    } else {
        for (int at = lane; at < inputs; at += 32) sum += wide(w[at]) * x[at];
    }
    sum = warp_sum(sum) * scale;
    if (lane == 0) y[row] = narrow<Y>(sum + (bias_or_residual ? bias_or_residual[row] : 0.0f));
}
EACH(times_vector,
     (const float *x, const void *weight, float *y, const float *add, int inputs, int out, float scale),
     times_vector(x, (const T *)weight, y, add, inputs, out, scale))
