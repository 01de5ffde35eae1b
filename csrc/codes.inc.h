/* From values to codes of one or two bytes in one loop, in registers of FF_BITS bits: 256, of AVX2, or
 * 512, of AVX-512. All deterministic modes take encode_near's sum, with the CPU turned to the mode's
 * direction; E8M0 has one of integers. Part of slots_256.h and isa_avx512.c, which say what the functions called here
 * do at their width: AVX2 compares into registers, AVX-512 into masks. */

/* encode_fast_e8m0, before signs. */
FF_INLINE FF_INTS V(e8m0)(FF_INTS bits, FF_INTS *most, const struct codes_plan *p)
{
    const FF_INTS zero = SI(setzero)(), first = MM(set1_epi32)(0x400000);
    const FF_INTS magnitude = SI(and)(bits, MM(set1_epi32)(INT32_MAX));
    *most = MM(max_epu32)(*most, MM(sub_epi32)(magnitude, MM(set1_epi32)(1)));
    const FF_INTS least = MM(max_epi32)(magnitude, first);
    const FF_INTS above = MM(sub_epi32)(least, MM(set1_epi32)(0x800000));
    const FF_INTS wide = MM(add_epi32)(least, MM(min_epi32)(above, zero));
    const FF_INTS odd = MM(srai_epi32)(MM(slli_epi32)(wide, 8), 31);
    const FF_INTS more = SI(and)(odd, MM(set1_epi32)((int32_t)p->odd_add));
    const FF_INTS add = MM(add_epi32)(MM(set1_epi32)((int32_t)p->add), more);
    return MM(srli_epi32)(MM(add_epi32)(wide, add), 23);
}

/* The value, or its magnitude, or what it is taken for. */
FF_INLINE FF_FLOATS V(clipped)(FF_INTS bits, FF_INTS magnitude, const struct codes_plan *p, int how)
{
    const FF_INTS above = MM(set1_epi32)((int32_t)p->beyond[0]);
    const FF_INTS below = MM(set1_epi32)((int32_t)(p->beyond[1] | UINT32_C(0x80000000)));
    if (how != FF_BY_SIGN)
        return FF_AS_FLOATS(MM(min_epi32)(magnitude, above));
    return MM(min_ps)(MM(max_ps)(FF_AS_FLOATS(bits), FF_AS_FLOATS(below)), FF_AS_FLOATS(above));
}

/* encode_near, before signs. Bytes' magnitudes are too large by what the first binade's field, cut
 * off like the others, is. A plan32's linear is 2^-104 or more: half a place is a normal float. */
FF_INLINE FF_INTS V(magnitudes)(FF_INTS bits, FF_INTS *most, const struct codes_plan *p, int how,
                                int kind)
{
    if (kind == FF_BYTES_E8M0)
        return V(e8m0)(bits, most, p);
    const FF_INTS sign = MM(set1_epi32)(INT32_MIN), field = MM(set1_epi32)(0x7f800000);
    const FF_INTS linear = MM(set1_epi32)((int32_t)p->linear);
    const FF_INTS magnitude = SI(andnot)(sign, bits);
    *most = MM(max_epi32)(*most, magnitude);
    FF_FLOATS x = V(clipped)(bits, magnitude, p, how);
    const FF_INTS exponent = SI(and)(FF_AS_INTS(x), field);
    const FF_INTS binade = kind == FF_BYTES_FIXED ? linear : MM(max_epi32)(exponent, linear);
    const FF_INTS magic = MM(add_epi32)(binade, MM(set1_epi32)(p->drop << 23));
    const FF_INTS half = MM(sub_epi32)(magic, MM(set1_epi32)(24 << 23));
    FF_FLOATS big = FF_AS_FLOATS(magic);
    if (how == FF_BY_SIGN)
        big = MM(or_ps)(big, MM(and_ps)(x, FF_AS_FLOATS(sign)));
    if (how == FF_TIES_AWAY)
        x = MM(add_ps)(x, FF_AS_FLOATS(half));
    const FF_FLOATS sum = MM(add_ps)(x, big);
    FF_INTS kept = MM(sub_epi32)(FF_AS_INTS(sum), FF_AS_INTS(big));
    if (how == FF_STICKY)
        kept = V(odd_where_unlike)(kept, MM(sub_ps)(sum, big), x);
    if (kind == FF_BYTES_FIXED)
        return kept;
    const FF_INTS above = kind == FF_WORDS_CAPPED ? MM(sub_epi32)(binade, linear) : binade;
    return MM(add_epi32)(kept, MM(srl_epi32)(above, _mm_cvtsi32_si128(p->drop)));
}

/* Of magnitudes of which 255 is beyond the largest. */
FF_INLINE FF_INTS V(with_signs_e8m0)(FF_INTS magnitudes, FF_INTS signs, const struct codes_plan *p)
{
    const FF_INTS positive = MM(min_epu8)(magnitudes, MM(set1_epi8)((int8_t)p->overflow[0]));
    return V(by_sign)(positive, MM(set1_epi8)((int8_t)p->overflow[1]), signs);
}

/* Of magnitudes of a byte in a shuffled order, and what has their signs. */
FF_INLINE FF_INTS V(with_signs)(FF_INTS magnitudes, FF_INTS signs, const struct codes_plan *p,
                                int kind)
{
    if (kind == FF_BYTES_E8M0)
        return V(with_signs_e8m0)(magnitudes, signs, p);
    if (kind == FF_BYTES_CAPPED || kind == FF_BYTES_FNUZ) {
        FF_INTS sign = MM(set1_epi8)((int8_t)p->sign);
        if (kind == FF_BYTES_FNUZ) /* 128, which is NaN, needs none either */
            sign = V(where_positive)(sign, magnitudes);
        const FF_INTS codes =
            SI(and)(SI(or)(magnitudes, sign), MM(set1_epi8)((int8_t)p->keep));
        return V(by_sign)(magnitudes, codes, signs);
    }
    const FF_INTS limit = V(by_sign)(MM(set1_epi8)((int8_t)p->limit[0]),
                                     MM(set1_epi8)((int8_t)p->limit[1]), signs);
    const FF_INTS overflow = V(by_sign)(MM(set1_epi8)((int8_t)p->overflow[0]),
                                        MM(set1_epi8)((int8_t)p->overflow[1]), signs);
    FF_INTS codes = SI(xor)(magnitudes,
                            V(where_negative)(MM(set1_epi8)((int8_t)p->flip), signs));
    if (kind == FF_BYTES_FIXED) {
        const FF_INTS minus = V(where_negative)(MM(set1_epi8)((int8_t)p->minus), signs);
        codes = SI(and)(MM(sub_epi8)(codes, minus), MM(set1_epi8)((int8_t)p->code_mask));
    }
    return V(up_to)(codes, magnitudes, limit, overflow);
}

/* Packs keep the signs of values. `first` is what magnitudes are too large by: for two registers at
 * once. n is a multiple of four registers. */
#define FF_ENCODE_BYTES(name, HOW, KIND)                                                           \
    FF_LOOP uint32_t V(name)(const uint32_t *restrict values, void *restrict codes, size_t n,      \
                             const struct codes_plan *p)                                           \
    {                                                                                              \
        const struct codes_plan hoisted = *p;                                                      \
        const int has_binades = KIND != FF_BYTES_FIXED && KIND != FF_BYTES_E8M0;                   \
        const FF_INTS first =                                                                      \
            MM(set1_epi16)(has_binades ? (int16_t)(hoisted.linear >> hoisted.drop) : 0);           \
        FF_INTS most = SI(setzero)();                                                              \
        for (size_t i = 0; i < n; i += 4 * FF_LANES) {                                             \
            FF_INTS magnitudes[2], signs[2];                                                       \
            for (size_t k = 0; k < 2; k++) {                                                       \
                const FF_INTS *at = (const FF_INTS *)(values + i + 2 * FF_LANES * k);              \
                const FF_INTS a = SI(loadu)(at), b = SI(loadu)(at + 1);                            \
                signs[k] = MM(packs_epi32)(a, b);                                                  \
                magnitudes[k] =                                                                    \
                    MM(sub_epi16)(MM(packus_epi32)(V(magnitudes)(a, &most, &hoisted, HOW, KIND),   \
                                                   V(magnitudes)(b, &most, &hoisted, HOW, KIND)),  \
                                  first);                                                          \
            }                                                                                      \
            const FF_INTS bytes =                                                                  \
                V(with_signs)(MM(packus_epi16)(magnitudes[0], magnitudes[1]),                      \
                              MM(packs_epi16)(signs[0], signs[1]), &hoisted, KIND);                \
            SI(storeu)((FF_INTS *)((uint8_t *)codes + i), V(bytes_in_order)(bytes));               \
        }                                                                                          \
        return V(largest_of)(most);                                                                \
    }
FF_ENCODE_BYTES(bytes_as_it_is, FF_AS_IT_IS, FF_BYTES)
FF_ENCODE_BYTES(bytes_fixed_as_it_is, FF_AS_IT_IS, FF_BYTES_FIXED)
FF_ENCODE_BYTES(bytes_capped_as_it_is, FF_AS_IT_IS, FF_BYTES_CAPPED)
FF_ENCODE_BYTES(bytes_fnuz_as_it_is, FF_AS_IT_IS, FF_BYTES_FNUZ)
FF_ENCODE_BYTES(bytes_by_sign, FF_BY_SIGN, FF_BYTES)
FF_ENCODE_BYTES(bytes_fixed_by_sign, FF_BY_SIGN, FF_BYTES_FIXED)
FF_ENCODE_BYTES(bytes_capped_by_sign, FF_BY_SIGN, FF_BYTES_CAPPED)
FF_ENCODE_BYTES(bytes_fnuz_by_sign, FF_BY_SIGN, FF_BYTES_FNUZ)
FF_ENCODE_BYTES(bytes_ties_away, FF_TIES_AWAY, FF_BYTES)
FF_ENCODE_BYTES(bytes_fixed_ties_away, FF_TIES_AWAY, FF_BYTES_FIXED)
FF_ENCODE_BYTES(bytes_capped_ties_away, FF_TIES_AWAY, FF_BYTES_CAPPED)
FF_ENCODE_BYTES(bytes_fnuz_ties_away, FF_TIES_AWAY, FF_BYTES_FNUZ)
FF_ENCODE_BYTES(bytes_sticky, FF_STICKY, FF_BYTES)
FF_ENCODE_BYTES(bytes_fixed_sticky, FF_STICKY, FF_BYTES_FIXED)
FF_ENCODE_BYTES(bytes_capped_sticky, FF_STICKY, FF_BYTES_CAPPED)
FF_ENCODE_BYTES(bytes_fnuz_sticky, FF_STICKY, FF_BYTES_FNUZ)
FF_ENCODE_BYTES(bytes_e8m0, FF_AS_IT_IS, FF_BYTES_E8M0)
#undef FF_ENCODE_BYTES

#define FF_ENCODE_WORDS(name, HOW)                                                                 \
    FF_LOOP uint32_t V(name)(const uint32_t *restrict values, void *restrict codes, size_t n,      \
                             const struct codes_plan *p)                                           \
    {                                                                                              \
        const struct codes_plan hoisted = *p;                                                      \
        const FF_INTS sign = MM(set1_epi16)((int16_t)hoisted.sign);                                \
        FF_INTS most = SI(setzero)();                                                              \
        for (size_t i = 0; i < n; i += 2 * FF_LANES) {                                             \
            const FF_INTS *at = (const FF_INTS *)(values + i);                                     \
            const FF_INTS a = SI(loadu)(at), b = SI(loadu)(at + 1);                                \
            const FF_INTS magnitudes =                                                             \
                MM(packus_epi32)(V(magnitudes)(a, &most, &hoisted, HOW, FF_WORDS_CAPPED),          \
                                 V(magnitudes)(b, &most, &hoisted, HOW, FF_WORDS_CAPPED));         \
            const FF_INTS negative = MM(srai_epi16)(MM(packs_epi32)(a, b), 15);                    \
            const FF_INTS words = SI(or)(magnitudes, SI(and)(negative, sign));                     \
            SI(storeu)((FF_INTS *)((uint16_t *)codes + i), V(words_in_order)(words));              \
        }                                                                                          \
        return V(largest_of)(most);                                                                \
    }
FF_ENCODE_WORDS(words_as_it_is, FF_AS_IT_IS)
FF_ENCODE_WORDS(words_by_sign, FF_BY_SIGN)
FF_ENCODE_WORDS(words_ties_away, FF_TIES_AWAY)
FF_ENCODE_WORDS(words_sticky, FF_STICKY)
#undef FF_ENCODE_WORDS

/* Writes codes of finite values, and returns the largest magnitude, of all; E8M0 takes 0 for none
 * either. The CPU has been turned to the mode's direction. */
static uint32_t V(encode_codes)(const uint32_t *values, void *codes, size_t n,
                                const struct codes_plan *p)
{
    static uint32_t (*const loops[4][FF_KINDS])(const uint32_t *, void *, size_t,
                                                const struct codes_plan *) = {
        {V(bytes_as_it_is), V(bytes_fixed_as_it_is), V(bytes_capped_as_it_is),
         V(bytes_fnuz_as_it_is), V(words_as_it_is)},
        {V(bytes_by_sign), V(bytes_fixed_by_sign), V(bytes_capped_by_sign), V(bytes_fnuz_by_sign),
         V(words_by_sign)},
        {V(bytes_ties_away), V(bytes_fixed_ties_away), V(bytes_capped_ties_away),
         V(bytes_fnuz_ties_away), V(words_ties_away)},
        {V(bytes_sticky), V(bytes_fixed_sticky), V(bytes_capped_sticky), V(bytes_fnuz_sticky),
         V(words_sticky)},
    };
    if (p->kind != FF_BYTES_E8M0)
        return loops[p->how][p->kind](values, codes, n, p);
    const uint32_t before = V(bytes_e8m0)(values, codes, n, p);
    return before < 0x7f7fffff ? before : 0x7f800000;
}

/* rint(x * reciprocal) + zero. Returns FF_CLAMPED if some of them lie outside qmin to qmax, as those of
 * NaN and Inf do, and then codes mean nothing; or FF_IN_DOUBT if a multiple lies farther from an integer
 * than `guard`, the pattern of a float, and then its code means nothing; else 0. n is a multiple of four
 * registers. */
#define FF_DEFINE_WITHIN_BYTES(T, I)                                                               \
    FF_INLINE FF_INTS V(rounded_##T)(const I *x, FF_FLOATS reciprocal, FF_INTS *away)              \
    {                                                                                              \
        const FF_FLOATS t = MM(mul_ps)(V(floats_##T)(x), reciprocal);                              \
        const FF_INTS whole = MM(cvtps_epi32)(t);                                                  \
        const FF_INTS off = FF_AS_INTS(MM(sub_ps)(t, MM(cvtepi32_ps)(whole)));                     \
        *away = MM(max_epi32)(*away, SI(and)(off, MM(set1_epi32)(INT32_MAX)));                     \
        return whole;                                                                              \
    }                                                                                              \
    FF_LOOP int V(within_bytes_##T)(const I *restrict x, uint8_t *restrict codes, size_t n,        \
                                    float reciprocal, int zero, int32_t guard, int qmin, int qmax) \
    {                                                                                              \
        const FF_FLOATS factor = MM(set1_ps)(reciprocal);                                          \
        const FF_INTS shift = MM(set1_epi16)((int16_t)zero), low_byte = MM(set1_epi16)(255);       \
        FF_INTS away = SI(setzero)(), least = MM(set1_epi16)(INT16_MAX);                           \
        FF_INTS most = MM(set1_epi16)(INT16_MIN);                                                  \
        for (size_t i = 0; i < n; i += 4 * FF_LANES) {                                             \
            FF_INTS q[2];                                                                          \
            for (size_t k = 0; k < 2; k++) {                                                       \
                const I *const at = x + i + 2 * FF_LANES * k;                                      \
                q[k] = MM(adds_epi16)(                                                             \
                    MM(packs_epi32)(V(rounded_##T)(at, factor, &away),                             \
                                    V(rounded_##T)(at + FF_LANES, factor, &away)),                 \
                    shift);                                                                        \
                least = MM(min_epi16)(least, q[k]);                                                \
                most = MM(max_epi16)(most, q[k]);                                                  \
                q[k] = SI(and)(q[k], low_byte);                                                    \
            }                                                                                      \
            const FF_INTS bytes = MM(packus_epi16)(q[0], q[1]);                                    \
            SI(storeu)((FF_INTS *)(codes + i), V(bytes_in_order)(bytes));                          \
        }                                                                                          \
        if (V(any_greater_16)(MM(set1_epi16)((int16_t)qmin), least) ||                             \
            V(any_greater_16)(most, MM(set1_epi16)((int16_t)qmax)))                                \
            return FF_CLAMPED;                                                                     \
        return V(any_greater_32)(away, MM(set1_epi32)(guard)) ? FF_IN_DOUBT : 0;                   \
    }
FF_DEFINE_WITHIN_BYTES(f32, int32_t)
FF_DEFINE_WITHIN_BYTES(f16, int16_t)
FF_DEFINE_WITHIN_BYTES(bf16, int16_t)
#undef FF_DEFINE_WITHIN_BYTES
