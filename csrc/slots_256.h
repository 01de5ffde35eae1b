/* Loops in registers of 256 bits that every level from AVX2 on has: slots of kernels.inc.h. Included
 * inside a level's region, after scalar.h. */
#include "codes_plan.h"
#include "multiply_tile_256.h"
#include "random_256.h"
#include "registers.h"

/* --- what codes.inc.h calls -------------------------------------------------------------------- */

/* The sign of y chooses, byte by byte. */
FF_INLINE __m256i by_sign_256(__m256i positive, __m256i negative, __m256i y)
{
    return _mm256_blendv_epi8(positive, negative, y);
}

/* The bytes of x where those of y are negative, or positive; else 0. */
FF_INLINE __m256i where_negative_256(__m256i x, __m256i y)
{
    return _mm256_and_si256(x, _mm256_cmpgt_epi8(_mm256_setzero_si256(), y));
}
FF_INLINE __m256i where_positive_256(__m256i x, __m256i y)
{
    return _mm256_and_si256(x, _mm256_cmpgt_epi8(y, _mm256_setzero_si256()));
}

/* The bytes of `within` where those of x, without a sign, are `limit` at most; else those of `beyond`. */
FF_INLINE __m256i up_to_256(__m256i within, __m256i x, __m256i limit, __m256i beyond)
{
    const __m256i is_within =
        _mm256_cmpeq_epi8(_mm256_subs_epu8(x, limit), _mm256_setzero_si256());
    return _mm256_blendv_epi8(beyond, within, is_within);
}

/* With the last bit set where two floats differ. */
FF_INLINE __m256i odd_where_unlike_256(__m256i kept, __m256 a, __m256 b)
{
    const __m256i unlike = _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_NEQ_OQ));
    return _mm256_or_si256(kept, _mm256_srli_epi32(unlike, 31));
}

FF_INLINE int any_greater_16_256(__m256i a, __m256i b)
{
    return _mm256_movemask_epi8(_mm256_cmpgt_epi16(a, b)) != 0;
}
FF_INLINE int any_greater_32_256(__m256i a, __m256i b)
{
    return _mm256_movemask_epi8(_mm256_cmpgt_epi32(a, b)) != 0;
}

FF_INLINE uint32_t largest_of_256(__m256i x)
{
    uint32_t each[8], largest = 0;
    _mm256_storeu_si256((__m256i *)each, x);
    for (int k = 0; k < 8; k++)
        largest = each[k] > largest ? each[k] : largest;
    return largest;
}

/* What packing, half by half, puts out of order: twice into bytes, once into words. */
FF_INLINE __m256i bytes_in_order_256(__m256i bytes)
{
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
FF_INLINE __m256i words_in_order_256(__m256i words)
{
    return _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
}

/* Eight values as floats. */
FF_INLINE __m256 floats_f32_256(const int32_t *x) { return _mm256_loadu_ps((const float *)x); }
FF_INLINE __m256 floats_f16_256(const int16_t *x)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}
FF_INLINE __m256 floats_bf16_256(const int16_t *x)
{
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

#define FF_BITS 256
#include "codes.inc.h"
#undef FF_BITS

/* --- slots ------------------------------------------------------------------------------------- */

/* Rounds binary64 to odd in binary32: toward zero, and the last bit says what was lost. Returns
 * the largest magnitude before that. n is a multiple of 8. */
FF_LOOP uint32_t narrow_to_odd_256(const uint64_t *restrict values, uint32_t *restrict narrow,
                                   size_t n)
{
    __m256i most = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8) {
        const __m256d a = _mm256_loadu_pd((const double *)(values + i));
        const __m256d b = _mm256_loadu_pd((const double *)(values + i + 4));
        const __m128 near_a = _mm256_cvtpd_ps(a), near_b = _mm256_cvtpd_ps(b);
        const __m256d lost_a = _mm256_cmp_pd(_mm256_cvtps_pd(near_a), a, _CMP_NEQ_OQ);
        const __m256d lost_b = _mm256_cmp_pd(_mm256_cvtps_pd(near_b), b, _CMP_NEQ_OQ);
        const __m256i lost = _mm256_castps_si256(_mm256_shuffle_ps(
            _mm256_castpd_ps(lost_a), _mm256_castpd_ps(lost_b), _MM_SHUFFLE(2, 0, 2, 0)));
        const __m256i odd =
            _mm256_srli_epi32(_mm256_permute4x64_epi64(lost, _MM_SHUFFLE(3, 1, 2, 0)), 31);
        const __m256i near = _mm256_castps_si256(_mm256_set_m128(near_b, near_a));
        most = _mm256_max_epi32(most, _mm256_and_si256(near, _mm256_set1_epi32(INT32_MAX)));
        _mm256_storeu_si256((__m256i *)(narrow + i), _mm256_or_si256(near, odd));
    }
    return largest_of_256(most);
}

/* Of 16 values whose words packing puts in order, if none is NaN. */
FF_INLINE __m256i bf16_16(__m256i a, __m256i b)
{
    const __m256i below_half = _mm256_set1_epi32(0x7fff), one = _mm256_set1_epi32(1);
    const __m256i odd_a = _mm256_and_si256(_mm256_srli_epi32(a, 16), one);
    const __m256i odd_b = _mm256_and_si256(_mm256_srli_epi32(b, 16), one);
    return _mm256_packus_epi32(
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(a, below_half), odd_a), 16),
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(b, below_half), odd_b), 16));
}

FF_INLINE __m256i eight_apart(const uint32_t *low, const uint32_t *high)
{
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low)),
        _mm_loadu_si128((const __m128i *)high), 1);
}

/* How far a loop goes that is slower, and takes what another does not know. */
FF_INLINE size_t until_512(size_t i, size_t n) { return n - i < 512 ? n : i + 512; }

/* Whole 32s, or all: two and a half operations a value less than where each is asked for NaN, as 512 are
 * from one on. */
FF_INLINE size_t encode_f32_bf16(const uint32_t *restrict values, uint16_t *restrict codes,
                                 size_t n)
{
    size_t i = 0, next = 0;
    for (; i + 32 <= n; i = next) {
        __m256 nan = _mm256_setzero_ps();
        next = i + 32;
        for (size_t k = i; k < next; k += 16) {
            const __m256i a = eight_apart(values + k, values + k + 8);
            const __m256i b = eight_apart(values + k + 4, values + k + 12);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b),
                                                  _CMP_UNORD_Q));
            _mm256_storeu_si256((__m256i *)(codes + k), bf16_16(a, b));
        }
        if (_mm256_movemask_ps(nan) != 0)
            for (next = until_512(i, n); i < next; i++)
                codes[i] = (uint16_t)encode32_alike(values[i], BF16);
    }
    return i;
}
#define FF_ENCODE_F32_BF16 encode_f32_bf16

/* Whole 32s, or all. VCVTPH2PS makes a signalling NaN quiet, so from a magnitude beyond Inf on 512 go the
 * other way. */
FF_INLINE size_t decode_f32_fp16_fast(const uint16_t *restrict codes, uint32_t *restrict values,
                                      size_t n)
{
    const __m128i magnitudes = _mm_set1_epi16(0x7fff), infinity = _mm_set1_epi16(0x7c00);
    size_t i = 0, next = 0;
    for (; i + 32 <= n; i = next) {
        __m128i nan = _mm_setzero_si128();
        next = i + 32;
        for (size_t k = i; k < next; k += 8) {
            const __m128i code = _mm_loadu_si128((const __m128i *)(codes + k));
            nan = _mm_max_epi16(nan, _mm_and_si128(code, magnitudes));
            _mm256_storeu_ps((float *)(values + k), _mm256_cvtph_ps(code));
        }
        if (_mm_movemask_epi8(_mm_cmpgt_epi16(nan, infinity)) != 0)
            for (next = until_512(i, n); i < next; i++)
                values[i] = decode_fp16(codes[i]);
    }
    return i;
}
#define FF_DECODE_F32_FP16 decode_f32_fp16_fast

/* Codes of a byte that are fp16's with fewer places and another bias: VCVTPH2PS takes them, and a power
 * of two makes up for the bias. Shifts are to fp16's places; `limit` is the last such magnitude. */
struct byte_halves {
    int is_there, shift, sign_shift;
    int16_t magnitudes, limit;
    float factor;
};

static struct byte_halves byte_halves_of(struct ff_format f)
{
    const int last = (31 << f.fraction_bits) - 1, largest = (int)max_code(f);
    return (struct byte_halves){
        .is_there = f.sign != FF_TWOS_COMPLEMENT && f.nan != FF_NAN_NEGATIVE_ZERO && f.has_zero &&
                    f.exponent_bits >= 1 && f.exponent_bits <= 5 && f.bias > -100 && f.bias < 100,
        .shift = 10 - f.fraction_bits,
        .sign_shift = f.sign == FF_UNSIGNED ? 16 : 16 - code_bits(f), /* 16 leaves nothing */
        .magnitudes = (int16_t)magnitude_mask(f),
        .limit = (int16_t)(largest < last ? largest : last),
        .factor = (float)power_of_two(15 - f.bias),
    };
}

FF_INLINE void decode_16_bytes(__m256i codes, const struct byte_halves *h, __m256i *most,
                               float *values)
{
    const __m256 factor = _mm256_set1_ps(h->factor);
    const __m256i magnitude = _mm256_and_si256(codes, _mm256_set1_epi16(h->magnitudes));
    const __m256i sign = _mm256_and_si256(
        _mm256_sll_epi16(codes, _mm_cvtsi32_si128(h->sign_shift)), _mm256_set1_epi16(INT16_MIN));
    const __m256i half =
        _mm256_or_si256(_mm256_sll_epi16(magnitude, _mm_cvtsi32_si128(h->shift)), sign);
    *most = _mm256_max_epi16(*most, magnitude);
    const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
    _mm256_storeu_ps(values, _mm256_mul_ps(low, factor));
    _mm256_storeu_ps(values + 8, _mm256_mul_ps(high, factor));
}

/* Whole 32s, or all. From one that has other codes, as Inf and NaN, 512 are looked up. */
FF_INLINE size_t decode_bytes(struct byte_halves halves, const uint32_t *restrict table,
                              const uint8_t *restrict codes, uint32_t *restrict values, size_t n)
{
    const __m256i limit = _mm256_set1_epi16(halves.limit);
    size_t i = 0, next = 0;
    for (; i + 32 <= n; i = next) {
        __m256i most = _mm256_setzero_si256();
        next = i + 32;
        for (size_t k = i; k < next; k += 16)
            decode_16_bytes(
                _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(codes + k))), &halves,
                &most, (float *)(values + k));
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi16(most, limit)) != 0)
            for (next = until_512(i, n); i < next; i++)
                values[i] = table[codes[i]];
    }
    return i;
}
#define FF_DECODE_BYTES decode_bytes

/* A sum of products is one code and sixteen times its neighbour: VPMADDUBSW. */
#define FF_PACK4                                                                                   \
    const __m256i low_bits = _mm256_set1_epi8(15);                                                 \
    const __m256i weights = _mm256_set1_epi16((int16_t)(256 << odd | 1 << even));                  \
    for (; i + 32 <= n / 2; i += 32)                                                               \
        pack4_64(codes + 2 * i, packed + i, low_bits, weights)
FF_INLINE void pack4_64(const uint8_t *codes, uint8_t *packed, __m256i low_bits, __m256i weights)
{
    const __m256i first = _mm256_loadu_si256((const __m256i *)codes);
    const __m256i second = _mm256_loadu_si256((const __m256i *)(codes + 32));
    const __m256i both =
        _mm256_packus_epi16(_mm256_maddubs_epi16(_mm256_and_si256(first, low_bits), weights),
                            _mm256_maddubs_epi16(_mm256_and_si256(second, low_bits), weights));
    _mm256_storeu_si256((__m256i *)packed,
                        _mm256_permute4x64_epi64(both, _MM_SHUFFLE(3, 1, 2, 0)));
}


/* Loops over blocks and cells are in headers of their own, which kernels.inc.h includes. */
#define FF_HAS_CODES
#define FF_HAS_CELLS
