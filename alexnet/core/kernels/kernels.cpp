// Operations for which plain torch needs many passes over memory, each in one pass here. They are
// called through ctypes: C names and plain pointers.
//
// Images lie as rows of pixels, every pixel as a row of channels (channels last). Arithmetic is
// float32 throughout; bf16 is widened when loaded and rounded to nearest even when stored. Vectors
// are the compiler's own, of 16 floats, which any processor can run; where there is AVX512 the
// reciprocal square root takes one instruction and one step of Newton's method. OpenMP divides the
// work if the compiler has it. No sum is divided among threads, so results do not depend on their
// number. Formulas and sources are in models/response_norm.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int kLanes = 16;
typedef float f32x16 __attribute__((vector_size(4 * kLanes)));
typedef int32_t i32x16 __attribute__((vector_size(4 * kLanes)));
typedef uint32_t u32x16 __attribute__((vector_size(4 * kLanes)));
typedef uint16_t u16x16 __attribute__((vector_size(2 * kLanes)));
typedef uint8_t u8x16 __attribute__((vector_size(kLanes)));

struct bf16 {
    uint16_t bits;
};

// ---- loading and storing 16 values, or the `count` that are left at the end of a row

inline f32x16 bf16_to_f32(u16x16 h) {
    u32x16 bits = __builtin_convertvector(h, u32x16) << 16;
    f32x16 v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}

inline u16x16 f32_to_bf16(f32x16 v) {
    u32x16 bits;
    std::memcpy(&bits, &v, sizeof bits);
    u32x16 nearest_even = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    u32x16 quiet_nan = (bits >> 16) | 0x40;  // NaN stays NaN
    return __builtin_convertvector(v == v ? nearest_even : quiet_nan, u16x16);
}

template <class V, class T>
inline V load_full(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class V, class T>
inline V load_partial(const T* from, int count) {
    V v = {};
    std::memcpy(&v, from, count * sizeof(T));
    return v;
}

inline f32x16 load(const float* from, int count) {
    return count >= kLanes ? load_full<f32x16>(from) : load_partial<f32x16>(from, count);
}

inline f32x16 load(const bf16* from, int count) {
    return bf16_to_f32(count >= kLanes ? load_full<u16x16>(from)
                                       : load_partial<u16x16>(from, count));
}

template <class V, class T>
inline void store_vector(T* to, V v, int count) {
    if (count >= kLanes)
        std::memcpy(to, &v, sizeof v);
    else
        std::memcpy(to, &v, count * sizeof(T));
}

inline void store(float* to, f32x16 v, int count) { store_vector(to, v, count); }
inline void store(bf16* to, f32x16 v, int count) { store_vector(to, f32_to_bf16(v), count); }

// ---- d ** -beta

struct Power {
    f32x16 pow_neg, reciprocal;  // d ** -beta, 1 / d
};

#ifdef __AVX512F__
inline f32x16 rsqrt(f32x16 d) {
    f32x16 r = (f32x16)_mm512_rsqrt14_ps((__m512)d);
    return r * (1.5f - 0.5f * d * r * r);
}
#else
inline f32x16 rsqrt(f32x16 d) {
    f32x16 r;
    for (int i = 0; i < kLanes; ++i) r[i] = 1 / std::sqrt(d[i]);
    return r;
}
#endif

inline Power pow_neg(f32x16 d, float beta) {
    if (beta == 0.75f) {  // by two square roots, several times faster than pow
        f32x16 r = rsqrt(d);
        return {r * r * rsqrt(r), r * r};
    }
    f32x16 p;
    for (int i = 0; i < kLanes; ++i) p[i] = std::pow(d[i], -beta);
    return {p, 1 / d};
}

// ---- local response norm across channels, with the relus and the max pool around it

struct NormArgs {
    int32_t height, width, channels, towers;
    int32_t n, relu_before, relu_after;
    int32_t pool_size, pool_stride, out_height, out_width;  // pool_size 0: no pool
    float k, alpha, beta;

    int tower_channels() const { return channels / towers; }
    // From one tower's channels to the next one's in the scratch: rounded up, with zeros between.
    int tower_stride() const {
        return (tower_channels() + kLanes - 1) / kLanes * kLanes + kLanes;
    }
    // Of one pixel in the scratch, with zeros before the first tower and after the last.
    int stride() const { return kLanes + towers * tower_stride(); }
    bool has_pool() const { return pool_size > 0; }
};

// One pixel's channels with zeros between the towers, so that windows need no check of borders.
struct Scratch {
    std::vector<float> values, squares, denominators;
    explicit Scratch(const NormArgs& a)
        : values(a.stride()), squares(a.stride()), denominators(a.stride()) {}
};

// Call f(index in the scratch, channel, channels left in the tower) for every 16 channels.
template <class F>
inline void for_each_vector(const NormArgs& a, F f) {
    for (int t = 0; t < a.towers; ++t)
        for (int c = 0; c < a.tower_channels(); c += kLanes)
            f(kLanes + t * a.tower_stride() + c, t * a.tower_channels() + c,
              a.tower_channels() - c);
}

inline f32x16 window_sum(const float* center, int half) {
    f32x16 sum = load_full<f32x16>(center);
    for (int j = 1; j <= half; ++j)
        sum += load_full<f32x16>(center - j) + load_full<f32x16>(center + j);
    return sum;
}

inline f32x16 relu(f32x16 v) { return v < 0 ? f32x16{} : v; }  // NaN stays NaN

// Put a pixel into the scratch: its values (after the first relu), their squares, and the
// denominators d = k + alpha * (sum of the squares in the window).
template <class T>
inline void load_pixel(const NormArgs& a, const T* x, Scratch& s) {
    for_each_vector(a, [&](int at, int c, int left) {
        f32x16 value = load(x + c, left);
        if (a.relu_before) value = relu(value);
        f32x16 square = value * value;
        std::memcpy(&s.values[at], &value, sizeof value);
        std::memcpy(&s.squares[at], &square, sizeof value);
    });
    for_each_vector(a, [&](int at, int, int) {
        f32x16 d = a.k + a.alpha * (a.n == 5 ? window_sum(&s.squares[at], 2)
                                             : window_sum(&s.squares[at], a.n / 2));
        std::memcpy(&s.denominators[at], &d, sizeof d);
    });
}

template <class T>
inline void normalize_pixel(const NormArgs& a, const T* x, Scratch& s, float* y) {
    load_pixel(a, x, s);
    for_each_vector(a, [&](int at, int, int) {
        f32x16 v = load_full<f32x16>(&s.values[at]) *
                   pow_neg(load_full<f32x16>(&s.denominators[at]), a.beta).pow_neg;
        std::memcpy(y + at, &v, sizeof v);
    });
}

template <class T>
void normalize_pixels(const NormArgs& a, const T* x, T* y, int64_t pixels) {
#pragma omp parallel
    {
        Scratch s(a);
        std::vector<float> out(a.stride());
#pragma omp for schedule(static)
        for (int64_t p = 0; p < pixels; ++p) {
            normalize_pixel(a, x + p * a.channels, s, out.data());
            for_each_vector(a, [&](int at, int c, int left) {
                f32x16 v = load_full<f32x16>(&out[at]);
                store(y + p * a.channels + c, a.relu_after ? relu(v) : v, left);
            });
        }
    }
}

// The maximum of each window of normalized rows, and its index in the window (255: none, where the
// relu gives 0).
template <class T>
void pool_row(const NormArgs& a, const std::vector<std::vector<float>>& rows, int oy, T* y,
              uint8_t* argmax) {
    int stride = a.stride(), bottom = std::min(a.height, oy * a.pool_stride + a.pool_size);
    for (int ox = 0; ox < a.out_width; ++ox, y += a.channels, argmax += a.channels) {
        int right = std::min(a.width, ox * a.pool_stride + a.pool_size);
        for_each_vector(a, [&](int at, int c, int left) {
            f32x16 best = f32x16{} - INFINITY;
            i32x16 index = i32x16{} + 255;
            for (int iy = oy * a.pool_stride; iy < bottom; ++iy)
                for (int ix = ox * a.pool_stride; ix < right; ++ix) {
                    f32x16 v = load_full<f32x16>(&rows[iy % a.pool_size][ix * stride + at]);
                    i32x16 better = (v > best) | (v != v);
                    i32x16 here = i32x16{} + ((iy - oy * a.pool_stride) * a.pool_size + ix -
                                              ox * a.pool_stride);
                    best = better ? v : best;
                    index = better ? here : index;
                }
            if (a.relu_after) {
                index = best <= 0 ? i32x16{} + 255 : index;
                best = relu(best);
            }
            store(y + c, best, left);
            store_vector(argmax + c, __builtin_convertvector(index, u8x16), left);
        });
    }
}

// A job is a block of output rows; input rows are normalized once and kept for the windows that
// share them.
template <class T>
void normalize_and_pool(const NormArgs& a, const T* x, T* y, uint8_t* argmax, int64_t images) {
    int rows_per_job = images > 1 ? a.out_height : (a.out_height + 7) / 8;
    int jobs_per_image = (a.out_height + rows_per_job - 1) / rows_per_job, stride = a.stride();
#pragma omp parallel
    {
        Scratch s(a);
        std::vector<std::vector<float>> rows(a.pool_size, std::vector<float>(a.width * stride));
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < images * jobs_per_image; ++job) {
            int64_t image = job / jobs_per_image;
            int first = job % jobs_per_image * rows_per_job;
            int last = std::min(a.out_height, first + rows_per_job), done = first * a.pool_stride;
            const T* from = x + image * a.height * a.width * a.channels;
            for (int oy = first; oy < last; ++oy) {
                done = std::max(done, oy * a.pool_stride);
                for (; done < std::min(a.height, oy * a.pool_stride + a.pool_size); ++done)
                    for (int ix = 0; ix < a.width; ++ix)
                        normalize_pixel(a, from + (int64_t(done) * a.width + ix) * a.channels, s,
                                        &rows[done % a.pool_size][ix * stride]);
                int64_t out = (image * a.out_height + oy) * a.out_width * a.channels;
                pool_row(a, rows, oy, y + out, argmax + out);
            }
        }
    }
}

// The gradient for 16 channels of the pixel (y, x) of an image, from all windows in which it was
// the maximum.
template <class T>
inline f32x16 pool_gradient(const NormArgs& a, const T* g, const uint8_t* argmax, int y, int x,
                            int c, int left) {
    f32x16 sum = {};
    for (int oy = std::max(0, (y - a.pool_size + a.pool_stride) / a.pool_stride);
         oy <= std::min(a.out_height - 1, y / a.pool_stride); ++oy)
        for (int ox = std::max(0, (x - a.pool_size + a.pool_stride) / a.pool_stride);
             ox <= std::min(a.out_width - 1, x / a.pool_stride); ++ox) {
            int64_t at = (int64_t(oy) * a.out_width + ox) * a.channels + c;
            u8x16 index = left >= kLanes ? load_full<u8x16>(argmax + at)
                                         : load_partial<u8x16>(argmax + at, left);
            int here = (y - oy * a.pool_stride) * a.pool_size + x - ox * a.pool_stride;
            sum += __builtin_convertvector(index, i32x16) == here ? load(g + at, left) : f32x16{};
        }
    return sum;
}

// gx = g * d**-beta - 2 alpha beta x S(g x d**(-beta - 1)), with d computed again from x.
template <class T>
void norm_gradient(const NormArgs& a, const T* x, const T* g, const uint8_t* argmax, T* gx,
                   int64_t pixels) {
    int64_t area = int64_t(a.height) * a.width, out_area = int64_t(a.out_height) * a.out_width;
#pragma omp parallel
    {
        Scratch s(a);
        std::vector<float> direct(a.stride()), shared(a.stride());  // the two terms, before S
#pragma omp for schedule(static)
        for (int64_t p = 0; p < pixels; ++p) {
            load_pixel(a, x + p * a.channels, s);
            int64_t out = p / area * out_area * a.channels;  // the start of the image's outputs
            int row = p % area / a.width, column = p % area % a.width;
            for_each_vector(a, [&](int at, int c, int left) {
                f32x16 value = load_full<f32x16>(&s.values[at]), in;
                if (a.has_pool())
                    in = pool_gradient(a, g + out, argmax + out, row, column, c, left);
                else {
                    in = load(g + p * a.channels + c, left);
                    if (a.relu_after) in = value <= 0 ? f32x16{} : in;
                }
                Power d = pow_neg(load_full<f32x16>(&s.denominators[at]), a.beta);
                f32x16 own = in * d.pow_neg, neighbors = own * value * d.reciprocal;
                std::memcpy(&direct[at], &own, sizeof own);
                std::memcpy(&shared[at], &neighbors, sizeof neighbors);
            });
            for_each_vector(a, [&](int at, int c, int left) {
                f32x16 value = load_full<f32x16>(&s.values[at]);
                f32x16 sum = a.n == 5 ? window_sum(&shared[at], 2)
                                      : window_sum(&shared[at], a.n / 2);
                f32x16 out = load_full<f32x16>(&direct[at]) - 2 * a.alpha * a.beta * value * sum;
                store(gx + p * a.channels + c,
                      a.relu_before ? (value <= 0 ? f32x16{} : out) : out, left);
            });
        }
    }
}

// ---- spatial response norm: over the pixels around each, channel by channel

struct SpatialArgs {
    int32_t height, width, channels, n;
    float k, alpha, beta;
};

// Sum 16 channels over windows of n x n pixels: first down the columns, then along each row. Call
// f(pixel, sum).
template <class F>
inline void window_sums_2d(const SpatialArgs& a, const f32x16* pixels, f32x16* columns, F f) {
    int half = a.n / 2;
    for (int y = 0; y < a.height; ++y) {
        for (int x = 0; x < a.width; ++x) {
            f32x16 sum = {};
            for (int iy = std::max(0, y - half); iy <= std::min(a.height - 1, y + half); ++iy)
                sum += pixels[iy * a.width + x];
            columns[x] = sum;
        }
        for (int x = 0; x < a.width; ++x) {
            f32x16 sum = {};
            for (int ix = std::max(0, x - half); ix <= std::min(a.width - 1, x + half); ++ix)
                sum += columns[ix];
            f(y * a.width + x, sum);
        }
    }
}

// Without g the normalized values, with it the gradient with respect to x.
template <class T>
void spatial_norm(const SpatialArgs& a, const T* x, const T* g, T* out, int64_t images) {
    int area = a.height * a.width, groups = (a.channels + kLanes - 1) / kLanes;
#pragma omp parallel
    {
        std::vector<f32x16> values(area), squares(area), direct(area), shared(area);
        std::vector<f32x16> columns(a.width);
#pragma omp for schedule(static)
        for (int64_t job = 0; job < images * groups; ++job) {
            int c = job % groups * kLanes, left = a.channels - c;
            int64_t base = job / groups * area * a.channels + c;
            auto at = [&](int p) { return base + int64_t(p) * a.channels; };
            for (int p = 0; p < area; ++p) {
                values[p] = load(x + at(p), left);
                squares[p] = values[p] * values[p];
            }
            window_sums_2d(a, squares.data(), columns.data(), [&](int p, f32x16 sum) {
                Power d = pow_neg(a.k + a.alpha * sum, a.beta);
                if (!g) return store(out + at(p), values[p] * d.pow_neg, left);
                direct[p] = load(g + at(p), left) * d.pow_neg;
                shared[p] = direct[p] * values[p] * d.reciprocal;
            });
            if (g)
                window_sums_2d(a, shared.data(), columns.data(), [&](int p, f32x16 sum) {
                    store(out + at(p), direct[p] - 2 * a.alpha * a.beta * values[p] * sum, left);
                });
        }
    }
}

// ---- the 2012 update: v <- momentum v - weight_decay lr w - lr g; w <- w + v; and, for a network
// ---- that computes in bf16, a rounded copy of w

struct UpdateArgs {
    float momentum, lr_weight_decay, lr;
};

template <class T>
void sgd_update(const UpdateArgs& a, float* weight, float* velocity, const T* gradient, bf16* copy,
                int64_t count) {
    int64_t jobs = (count + 4095) / 4096;
#pragma omp parallel for schedule(static)
    for (int64_t job = 0; job < jobs; ++job)
        for (int64_t i = job * 4096; i < std::min(count, (job + 1) * 4096); i += kLanes) {
            int left = int(std::min<int64_t>(kLanes, count - i));
            f32x16 w = load(weight + i, left);
            f32x16 v = a.momentum * load(velocity + i, left) - a.lr_weight_decay * w -
                       a.lr * load(gradient + i, left);
            w += v;
            store(velocity + i, v, left);
            store(weight + i, w, left);
            if (copy) store(copy + i, w, left);
        }
}

// ---- images: crops of uint8 squares (S, S, C), and what the network is given of them

struct CropArgs {
    int32_t side, height, width, channels;  // side: of the square; the others: of the crop

    int row_bytes() const { return width * channels; }
};

// Mirror a row of pixels left to right. RGB goes five pixels at a time while the 16 bytes around
// them lie within the row.
inline void mirror_row(const uint8_t* row, uint8_t* out, int width, int channels) {
    int x = 0;
    if (channels == 3)
        for (; x + 6 <= width; x += 5) {
            u8x16 v = load_full<u8x16>(row + 3 * (width - 5 - x) - 1);  // one byte, five pixels
            v = __builtin_shufflevector(v, v, 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
            std::memcpy(out + 3 * x, &v, sizeof v);  // the next pixel overwrites the last byte
        }
    for (; x < width; ++x)
        std::memcpy(out + channels * x, row + channels * (width - 1 - x), channels);
}

void crop_image(const CropArgs& a, const uint8_t* square, uint8_t* crop, int64_t top, int64_t left,
                bool mirror) {
    for (int y = 0; y < a.height; ++y, crop += a.row_bytes()) {
        const uint8_t* row = square + ((top + y) * a.side + left) * a.channels;
        if (mirror)
            mirror_row(row, crop, a.width, a.channels);
        else
            std::memcpy(crop, row, a.row_bytes());
    }
}

// (pixel - mean + shift) * scale, with a shift for each image and channel. The mean is an image of
// the crop's size, one of the square's size (then cropped and mirrored as the image was), or a
// color.
struct NormalizeArgs {
    int32_t height, width, channels;
    int32_t mean_side;  // S where the mean has the square's size, otherwise 0
    int32_t mean_is_color;
    float scale;
};

template <class T>
void normalize(const NormalizeArgs& a, const uint8_t* crops, const float* mean,
               const int64_t* offsets, const uint8_t* mirrored, const float* shift, T* out,
               int64_t images) {
    int row = a.width * a.channels;
#pragma omp parallel
    {
        std::vector<float> mean_row(row), shift_row(row);
        int64_t shift_image = -1;  // whose shift is in shift_row
#pragma omp for schedule(static)
        for (int64_t job = 0; job < images * a.height; ++job) {
            int64_t image = job / a.height, y = job % a.height;
            const float* m = mean + y * row;
            if (a.mean_side)
                m = mean + ((offsets[2 * image] + y) * a.mean_side + offsets[2 * image + 1]) *
                               a.channels;
            if (a.mean_is_color || (a.mean_side && mirrored[image])) {
                for (int x = 0; x < a.width; ++x)
                    for (int c = 0; c < a.channels; ++c)
                        mean_row[x * a.channels + c] =
                            a.mean_is_color ? mean[c] : m[(a.width - 1 - x) * a.channels + c];
                m = mean_row.data();
            }
            if (shift && shift_image != image) {
                for (int i = 0; i < row; ++i)
                    shift_row[i] = shift[image * a.channels + i % a.channels];
                shift_image = image;
            }
            for (int i = 0; i < row; i += kLanes) {
                int left = row - i;
                const uint8_t* at = crops + job * row + i;
                f32x16 pixel = __builtin_convertvector(
                    left >= kLanes ? load_full<u8x16>(at) : load_partial<u8x16>(at, left), f32x16);
                store(out + job * row + i,
                      (pixel - load(m + i, left) + load(&shift_row[i], left)) * a.scale, left);
            }
        }
    }
}

template <class T>
void norm_forward(const NormArgs& a, const T* x, T* y, uint8_t* argmax, int64_t images) {
    if (a.has_pool())
        normalize_and_pool(a, x, y, argmax, images);
    else
        normalize_pixels(a, x, y, images * a.height * a.width);
}

template <class T>
void norm_backward(const NormArgs& a, const T* x, const T* g, const uint8_t* argmax, T* gx,
                   int64_t images) {
    norm_gradient(a, x, g, argmax, gx, images * a.height * a.width);
}

}  // namespace

extern "C" {

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

EXPORT void norm_forward_f32(const NormArgs* a, const float* x, float* y, uint8_t* argmax,
                             int64_t n) {
    norm_forward(*a, x, y, argmax, n);
}
EXPORT void norm_forward_bf16(const NormArgs* a, const bf16* x, bf16* y, uint8_t* argmax,
                              int64_t n) {
    norm_forward(*a, x, y, argmax, n);
}
EXPORT void norm_backward_f32(const NormArgs* a, const float* x, const float* g,
                              const uint8_t* argmax, float* gx, int64_t n) {
    norm_backward(*a, x, g, argmax, gx, n);
}
EXPORT void norm_backward_bf16(const NormArgs* a, const bf16* x, const bf16* g,
                               const uint8_t* argmax, bf16* gx, int64_t n) {
    norm_backward(*a, x, g, argmax, gx, n);
}

EXPORT void spatial_norm_f32(const SpatialArgs* a, const float* x, const float* g, float* out,
                             int64_t n) {
    spatial_norm(*a, x, g, out, n);
}
EXPORT void spatial_norm_bf16(const SpatialArgs* a, const bf16* x, const bf16* g, bf16* out,
                              int64_t n) {
    spatial_norm(*a, x, g, out, n);
}

EXPORT void sgd_update_f32(const UpdateArgs* a, float* w, float* v, const float* g, bf16* copy,
                           int64_t n) {
    sgd_update(*a, w, v, g, copy, n);
}
EXPORT void sgd_update_bf16(const UpdateArgs* a, float* w, float* v, const bf16* g, bf16* copy,
                            int64_t n) {
    sgd_update(*a, w, v, g, copy, n);
}

EXPORT void crop_images(const CropArgs* a, const uint8_t* const* squares, uint8_t* crops,
                        const int64_t* offsets, const uint8_t* mirrored, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        crop_image(*a, squares[i], crops + i * a->height * a->row_bytes(), offsets[2 * i],
                   offsets[2 * i + 1], mirrored[i]);
}

EXPORT void normalize_f32(const NormalizeArgs* a, const uint8_t* crops, const float* mean,
                          const int64_t* offsets, const uint8_t* mirrored, const float* shift,
                          float* out, int64_t n) {
    normalize(*a, crops, mean, offsets, mirrored, shift, out, n);
}
EXPORT void normalize_bf16(const NormalizeArgs* a, const uint8_t* crops, const float* mean,
                           const int64_t* offsets, const uint8_t* mirrored, const float* shift,
                           bf16* out, int64_t n) {
    normalize(*a, crops, mean, offsets, mirrored, shift, out, n);
}
}
