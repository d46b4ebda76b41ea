// The operations that plain torch does in many passes over memory, each in one. Called through ctypes: C names, plain pointers.
//
// Maps lie as rows of pixels, every pixel a row of channels (channels last). Arithmetic is float32 throughout; bf16 is widened
// on reading and rounded to the nearest even on writing. Lanes are the compiler's own vectors of 16 floats, which any processor
// can run; where AVX512 is at hand the reciprocal root takes one instruction and one step of Newton's. OpenMP divides the work if
// the compiler has it. Formulas and sources are in network/response_norm.py; results do not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int L = 16;
typedef float Lanes __attribute__((vector_size(4 * L)));
typedef int32_t Ints __attribute__((vector_size(4 * L)));
typedef uint32_t Words __attribute__((vector_size(4 * L)));
typedef uint16_t Halves __attribute__((vector_size(2 * L)));
typedef uint8_t Bytes __attribute__((vector_size(L)));

struct bf16 {
    uint16_t bits;
};

// ---- reading and writing 16 values, or the `count` that are left of a row

inline Lanes widened(Halves h) {
    Words w = __builtin_convertvector(h, Words) << 16;
    Lanes v;
    std::memcpy(&v, &w, sizeof v);
    return v;
}

inline Halves rounded(Lanes v) {
    Words w;
    std::memcpy(&w, &v, sizeof w);
    Words even = (w + 0x7FFF + ((w >> 16) & 1)) >> 16;
    Words quiet = (w >> 16) | 0x40;  // a number that is none stays none
    return __builtin_convertvector(v == v ? even : quiet, Halves);
}

template <class V, class T>
inline V whole(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class V, class T>
inline V part(const T* from, int count) {
    V v = {};
    std::memcpy(&v, from, count * sizeof(T));
    return v;
}

inline Lanes read(const float* from, int count) { return count >= L ? whole<Lanes>(from) : part<Lanes>(from, count); }
inline Lanes read(const bf16* from, int count) { return widened(count >= L ? whole<Halves>(from) : part<Halves>(from, count)); }

template <class V, class T>
inline void put(T* to, V v, int count) {
    if (count >= L)
        std::memcpy(to, &v, sizeof v);
    else
        std::memcpy(to, &v, count * sizeof(T));
}

inline void write(float* to, Lanes v, int count) { put(to, v, count); }
inline void write(bf16* to, Lanes v, int count) { put(to, rounded(v), count); }

// ---- d ** -beta

struct Power {
    Lanes power, inverse;  // d ** -beta, 1 / d
};

#ifdef __AVX512F__
inline Lanes reciprocal_root(Lanes d) {
    Lanes r = (Lanes)_mm512_rsqrt14_ps((__m512)d);
    return r * (1.5f - 0.5f * d * r * r);
}
#else
inline Lanes reciprocal_root(Lanes d) {
    Lanes r;
    for (int i = 0; i < L; ++i) r[i] = 1 / std::sqrt(d[i]);
    return r;
}
#endif

inline Power raised(Lanes d, float beta) {
    if (beta == 0.75f) {  // by two roots, several times faster than pow
        Lanes r = reciprocal_root(d);
        return {r * r * reciprocal_root(r), r * r};
    }
    Lanes p;
    for (int i = 0; i < L; ++i) p[i] = std::pow(d[i], -beta);
    return {p, 1 / d};
}

// ---- a norm across maps, with the relus and the pool around it

struct Block {
    int32_t height, width, channels, towers;
    int32_t n, relu_before, relu_after;
    int32_t size, stride, out_height, out_width;  // of the pool; size 0: none
    float k, alpha, beta;

    int run() const { return channels / towers; }
    int step() const { return (run() + L - 1) / L * L + L; }  // a tower's channels on the bench, filled up, and zeros between towers
    int bench() const { return L + towers * step(); }
    bool pools() const { return size > 0; }
};

// One pixel's channels laid out with zeros between the towers, so that windows end at their borders by themselves.
struct Bench {
    std::vector<float> values, squares, scale;
    explicit Bench(const Block& b) : values(b.bench()), squares(b.bench()), scale(b.bench()) {}
};

// Calls f(place on the bench, channel, how many are left of the tower) for every 16 channels.
template <class F>
inline void each(const Block& b, F f) {
    for (int t = 0; t < b.towers; ++t)
        for (int c = 0; c < b.run(); c += L) f(L + t * b.step() + c, t * b.run() + c, b.run() - c);
}

inline Lanes window_sum(const float* centre, int half) {
    Lanes sum = whole<Lanes>(centre);
    for (int j = 1; j <= half; ++j) sum += whole<Lanes>(centre - j) + whole<Lanes>(centre + j);
    return sum;
}

inline Lanes relu(Lanes v) { return v < 0 ? Lanes{} : v; }  // keeps what is no number

// A pixel onto the bench: its values (behind the first relu), their squares, d = k + alpha * the sum over the window.
template <class T>
inline void look(const Block& b, const T* x, Bench& s) {
    each(b, [&](int at, int c, int left) {
        Lanes a = read(x + c, left);
        if (b.relu_before) a = relu(a);
        Lanes square = a * a;
        std::memcpy(&s.values[at], &a, sizeof a);
        std::memcpy(&s.squares[at], &square, sizeof a);
    });
    each(b, [&](int at, int, int) {
        Lanes d = b.k + b.alpha * (b.n == 5 ? window_sum(&s.squares[at], 2) : window_sum(&s.squares[at], b.n / 2));
        std::memcpy(&s.scale[at], &d, sizeof d);
    });
}

template <class T>
inline void normalise(const Block& b, const T* x, Bench& s, float* y) {
    look(b, x, s);
    each(b, [&](int at, int, int) {
        Lanes v = whole<Lanes>(&s.values[at]) * raised(whole<Lanes>(&s.scale[at]), b.beta).power;
        std::memcpy(y + at, &v, sizeof v);
    });
}

template <class T>
void normalise_rows(const Block& b, const T* x, T* y, int64_t pixels) {
#pragma omp parallel
    {
        Bench s(b);
        std::vector<float> out(b.bench());
#pragma omp for schedule(static)
        for (int64_t p = 0; p < pixels; ++p) {
            normalise(b, x + p * b.channels, s, out.data());
            each(b, [&](int at, int c, int left) {
                Lanes v = whole<Lanes>(&out[at]);
                write(y + p * b.channels + c, b.relu_after ? relu(v) : v, left);
            });
        }
    }
}

// The largest of each window of normalised rows, and which of its places it stood at (255: none, where the relu is at 0).
template <class T>
void pool_row(const Block& b, const std::vector<std::vector<float>>& rows, int oy, T* y, uint8_t* winner) {
    int bench = b.bench(), bottom = std::min(b.height, oy * b.stride + b.size);
    for (int ox = 0; ox < b.out_width; ++ox, y += b.channels, winner += b.channels) {
        int right = std::min(b.width, ox * b.stride + b.size);
        each(b, [&](int at, int c, int left) {
            Lanes best = Lanes{} - INFINITY;
            Ints place = Ints{} + 255;
            for (int iy = oy * b.stride; iy < bottom; ++iy)
                for (int ix = ox * b.stride; ix < right; ++ix) {
                    Lanes v = whole<Lanes>(&rows[iy % b.size][ix * bench + at]);
                    Ints better = (v > best) | (v != v), here = Ints{} + ((iy - oy * b.stride) * b.size + ix - ox * b.stride);
                    best = better ? v : best;
                    place = better ? here : place;
                }
            if (b.relu_after) {
                place = best <= 0 ? Ints{} + 255 : place;
                best = relu(best);
            }
            write(y + c, best, left);
            put(winner + c, __builtin_convertvector(place, Bytes), left);
        });
    }
}

// A block of output rows at a time; input rows are normalised once and kept for the windows that share them.
template <class T>
void normalise_and_pool(const Block& b, const T* x, T* y, uint8_t* winner, int64_t pictures) {
    int rows_at_once = pictures > 1 ? b.out_height : (b.out_height + 7) / 8;
    int parts = (b.out_height + rows_at_once - 1) / rows_at_once, bench = b.bench();
#pragma omp parallel
    {
        Bench s(b);
        std::vector<std::vector<float>> rows(b.size, std::vector<float>(b.width * bench));
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < pictures * parts; ++job) {
            int64_t picture = job / parts;
            int first = job % parts * rows_at_once, last = std::min(b.out_height, first + rows_at_once), done = first * b.stride;
            const T* from = x + picture * b.height * b.width * b.channels;
            for (int oy = first; oy < last; ++oy) {
                done = std::max(done, oy * b.stride);
                for (; done < std::min(b.height, oy * b.stride + b.size); ++done)
                    for (int ix = 0; ix < b.width; ++ix)
                        normalise(b, from + (int64_t(done) * b.width + ix) * b.channels, s, &rows[done % b.size][ix * bench]);
                int64_t out = (picture * b.out_height + oy) * b.out_width * b.channels;
                pool_row(b, rows, oy, y + out, winner + out);
            }
        }
    }
}

// The gradient that reaches 16 channels of the pixel (y, x) of a picture from all windows in which it was the largest.
template <class T>
inline Lanes pooled_gradient(const Block& b, const T* g, const uint8_t* winner, int y, int x, int c, int left) {
    Lanes sum = {};
    for (int oy = std::max(0, (y - b.size + b.stride) / b.stride); oy <= std::min(b.out_height - 1, y / b.stride); ++oy)
        for (int ox = std::max(0, (x - b.size + b.stride) / b.stride); ox <= std::min(b.out_width - 1, x / b.stride); ++ox) {
            int64_t at = (int64_t(oy) * b.out_width + ox) * b.channels + c;
            Bytes places = left >= L ? whole<Bytes>(winner + at) : part<Bytes>(winner + at, left);
            int here = (y - oy * b.stride) * b.size + x - ox * b.stride;
            sum += __builtin_convertvector(places, Ints) == here ? read(g + at, left) : Lanes{};
        }
    return sum;
}

// gx = g * d**-beta - 2 alpha beta x S(g x d**(-beta - 1)), with d worked out again from x.
template <class T>
void norm_gradient(const Block& b, const T* x, const T* g, const uint8_t* winner, T* gx, int64_t pixels) {
    int64_t area = int64_t(b.height) * b.width, out_area = int64_t(b.out_height) * b.out_width;
#pragma omp parallel
    {
        Bench s(b);
        std::vector<float> direct(b.bench()), shared(b.bench());
#pragma omp for schedule(static)
        for (int64_t p = 0; p < pixels; ++p) {
            look(b, x + p * b.channels, s);
            int64_t of = p / area * out_area * b.channels;
            int row = p % area / b.width, column = p % area % b.width;
            each(b, [&](int at, int c, int left) {
                Lanes a = whole<Lanes>(&s.values[at]), in;
                if (b.pools())
                    in = pooled_gradient(b, g + of, winner + of, row, column, c, left);
                else {
                    in = read(g + p * b.channels + c, left);
                    if (b.relu_after) in = a <= 0 ? Lanes{} : in;
                }
                Power d = raised(whole<Lanes>(&s.scale[at]), b.beta);
                Lanes straight = in * d.power, around = straight * a * d.inverse;
                std::memcpy(&direct[at], &straight, sizeof straight);
                std::memcpy(&shared[at], &around, sizeof around);
            });
            each(b, [&](int at, int c, int left) {
                Lanes a = whole<Lanes>(&s.values[at]);
                Lanes sum = b.n == 5 ? window_sum(&shared[at], 2) : window_sum(&shared[at], b.n / 2);
                Lanes out = whole<Lanes>(&direct[at]) - 2 * b.alpha * b.beta * a * sum;
                write(gx + p * b.channels + c, b.relu_before ? (a <= 0 ? Lanes{} : out) : out, left);
            });
        }
    }
}

// ---- the norm over the pixels around, map by map

struct Space {
    int32_t height, width, channels, n;
    float k, alpha, beta;
};

// Adds up maps of 16 channels over n x n pixels: first down the columns, then along each row. Calls f(pixel, sum).
template <class F>
inline void space_sums(const Space& s, const Lanes* maps, Lanes* columns, F f) {
    int half = s.n / 2;
    for (int y = 0; y < s.height; ++y) {
        for (int x = 0; x < s.width; ++x) {
            Lanes sum = {};
            for (int iy = std::max(0, y - half); iy <= std::min(s.height - 1, y + half); ++iy) sum += maps[iy * s.width + x];
            columns[x] = sum;
        }
        for (int x = 0; x < s.width; ++x) {
            Lanes sum = {};
            for (int ix = std::max(0, x - half); ix <= std::min(s.width - 1, x + half); ++ix) sum += columns[ix];
            f(y * s.width + x, sum);
        }
    }
}

// Without g the normalised maps, with it the gradient with respect to x.
template <class T>
void space(const Space& s, const T* x, const T* g, T* out, int64_t pictures) {
    int area = s.height * s.width, groups = (s.channels + L - 1) / L;
#pragma omp parallel
    {
        std::vector<Lanes> values(area), squares(area), direct(area), shared(area), columns(s.width);
#pragma omp for schedule(static)
        for (int64_t job = 0; job < pictures * groups; ++job) {
            int c = job % groups * L, left = s.channels - c;
            int64_t base = job / groups * area * s.channels + c;
            auto at = [&](int p) { return base + int64_t(p) * s.channels; };
            for (int p = 0; p < area; ++p) {
                values[p] = read(x + at(p), left);
                squares[p] = values[p] * values[p];
            }
            space_sums(s, squares.data(), columns.data(), [&](int p, Lanes sum) {
                Power d = raised(s.k + s.alpha * sum, s.beta);
                if (!g) return write(out + at(p), values[p] * d.power, left);
                direct[p] = read(g + at(p), left) * d.power;
                shared[p] = direct[p] * values[p] * d.inverse;
            });
            if (g)
                space_sums(s, shared.data(), columns.data(), [&](int p, Lanes sum) {
                    write(out + at(p), direct[p] - 2 * s.alpha * s.beta * values[p] * sum, left);
                });
        }
    }
}

// ---- the update rule: v <- momentum v - decay rate w - rate g; w <- w + v; and w rounded, for a net that computes in bf16

struct Rule {
    float momentum, decay_rate, rate;
};

template <class T>
void update(const Rule& r, float* weight, float* velocity, const T* gradient, bf16* copy, int64_t count) {
    int64_t jobs = (count + 4095) / 4096;
#pragma omp parallel for schedule(static)
    for (int64_t job = 0; job < jobs; ++job)
        for (int64_t i = job * 4096; i < std::min(count, (job + 1) * 4096); i += L) {
            int left = int(std::min<int64_t>(L, count - i));
            Lanes w = read(weight + i, left);
            Lanes v = r.momentum * read(velocity + i, left) - r.decay_rate * w - r.rate * read(gradient + i, left);
            w += v;
            write(velocity + i, v, left);
            write(weight + i, w, left);
            if (copy) write(copy + i, w, left);
        }
}

// ---- pictures: crops of uint8 squares (S, S, C), and what the network sees of them

struct Crop {
    int32_t side, height, width, channels;  // of the square; of the crop

    int row() const { return width * channels; }
};

// A row of pixels from right to left; five pixels of three bytes at a time while the 16 bytes around them lie inside the row.
inline void mirror_row(const uint8_t* row, uint8_t* out, int width, int channels) {
    int x = 0;
    if (channels == 3)
        for (; x + 6 <= width; x += 5) {
            Bytes v = whole<Bytes>(row + 3 * (width - 5 - x) - 1);  // one byte early, five pixels
            v = __builtin_shufflevector(v, v, 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
            std::memcpy(out + 3 * x, &v, sizeof v);  // the last byte is the next pixel's to write
        }
    for (; x < width; ++x) std::memcpy(out + channels * x, row + channels * (width - 1 - x), channels);
}

void cut(const Crop& c, const uint8_t* square, uint8_t* crop, int64_t top, int64_t left, bool mirror) {
    for (int y = 0; y < c.height; ++y, crop += c.row()) {
        const uint8_t* row = square + ((top + y) * c.side + left) * c.channels;
        if (mirror)
            mirror_row(row, crop, c.width, c.channels);
        else
            std::memcpy(crop, row, c.row());
    }
}

// Levels less the mean, plus a shift for each channel of a picture, times the scale. The mean is an image as large as a crop, one
// as large as a square (then taken where the crop was cut, mirrored with it), or a colour.
struct Levels {
    int32_t height, width, channels, mean_side;  // mean_side: 0 for a colour or an image of the crop's size, S for a square's
    int32_t mean_is_colour;
    float scale;
};

template <class T>
void present(const Levels& v, const uint8_t* crops, const float* mean, const int64_t* offsets, const uint8_t* mirrors,
             const float* shift, T* out, int64_t pictures) {
    int row = v.width * v.channels;
#pragma omp parallel
    {
        std::vector<float> turned(row), shifts(row);
        int64_t shifted = -1;
#pragma omp for schedule(static)
        for (int64_t job = 0; job < pictures * v.height; ++job) {
            int64_t picture = job / v.height, y = job % v.height;
            const float* less = mean + y * row;
            if (v.mean_side) less = mean + ((offsets[2 * picture] + y) * v.mean_side + offsets[2 * picture + 1]) * v.channels;
            if (v.mean_is_colour || (v.mean_side && mirrors[picture])) {
                for (int x = 0; x < v.width; ++x)
                    for (int c = 0; c < v.channels; ++c)
                        turned[x * v.channels + c] = v.mean_is_colour ? mean[c] : less[(v.width - 1 - x) * v.channels + c];
                less = turned.data();
            }
            if (shift && shifted != picture) {
                for (int i = 0; i < row; ++i) shifts[i] = shift[picture * v.channels + i % v.channels];
                shifted = picture;
            }
            for (int i = 0; i < row; i += L) {
                int left = row - i;
                const uint8_t* at = crops + job * row + i;
                Lanes level = __builtin_convertvector(left >= L ? whole<Bytes>(at) : part<Bytes>(at, left), Lanes);
                write(out + job * row + i, (level - read(less + i, left) + read(&shifts[i], left)) * v.scale, left);
            }
        }
    }
}

template <class T>
void forward(const Block& b, const T* x, T* y, uint8_t* winner, int64_t pictures) {
    if (b.pools())
        normalise_and_pool(b, x, y, winner, pictures);
    else
        normalise_rows(b, x, y, pictures * b.height * b.width);
}

template <class T>
void backward(const Block& b, const T* x, const T* g, const uint8_t* winner, T* gx, int64_t pictures) {
    norm_gradient(b, x, g, winner, gx, pictures * b.height * b.width);
}

}  // namespace

extern "C" {

void norm_forward_f32(const Block* b, const float* x, float* y, uint8_t* w, int64_t n) { forward(*b, x, y, w, n); }
void norm_forward_bf16(const Block* b, const bf16* x, bf16* y, uint8_t* w, int64_t n) { forward(*b, x, y, w, n); }
void norm_backward_f32(const Block* b, const float* x, const float* g, const uint8_t* w, float* gx, int64_t n) {
    backward(*b, x, g, w, gx, n);
}
void norm_backward_bf16(const Block* b, const bf16* x, const bf16* g, const uint8_t* w, bf16* gx, int64_t n) {
    backward(*b, x, g, w, gx, n);
}

void space_f32(const Space* s, const float* x, const float* g, float* out, int64_t n) { space(*s, x, g, out, n); }
void space_bf16(const Space* s, const bf16* x, const bf16* g, bf16* out, int64_t n) { space(*s, x, g, out, n); }

void update_f32(const Rule* r, float* w, float* v, const float* g, bf16* copy, int64_t n) { update(*r, w, v, g, copy, n); }
void update_bf16(const Rule* r, float* w, float* v, const bf16* g, bf16* copy, int64_t n) { update(*r, w, v, g, copy, n); }

void cut_all(const Crop* c, const uint8_t* const* squares, uint8_t* crops, const int64_t* offsets, const uint8_t* mirrors, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        cut(*c, squares[i], crops + i * c->height * c->row(), offsets[2 * i], offsets[2 * i + 1], mirrors[i]);
}

void present_f32(const Levels* v, const uint8_t* crops, const float* mean, const int64_t* offsets, const uint8_t* mirrors,
                 const float* shift, float* out, int64_t n) {
    present(*v, crops, mean, offsets, mirrors, shift, out, n);
}
void present_bf16(const Levels* v, const uint8_t* crops, const float* mean, const int64_t* offsets, const uint8_t* mirrors,
                  const float* shift, bf16* out, int64_t n) {
    present(*v, crops, mean, offsets, mirrors, shift, out, n);
}
}
